"""What a measured figure depends on besides the code: the machine, its threads, its memory."""

import os
import platform
import re
import resource
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

__all__ = [
    "available_bytes",
    "library_versions",
    "machine_figures",
    "peak_device_memory_mb",
    "peak_memory_mb",
    "synchronize",
]

_LIBRARIES = ("triton", "torchao", "flash_attn", "flash_attn_3")
_DRIVER = Path("/proc/driver/nvidia/version")
_BYTES_PER_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


def peak_memory_mb(device: str | torch.device) -> dict[str, float]:
    """Peak memory so far in MB: the process's, and on a GPU PyTorch's too."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _BYTES_PER_UNIT
    figures = {"peak_memory_mb": round(peak / 2**20, 1)}
    on_device = peak_device_memory_mb(device)
    return figures if on_device is None else {**figures, "peak_device_memory_mb": on_device}


def peak_device_memory_mb(device: str | torch.device) -> float | None:
    """Peak memory of PyTorch on a GPU since its counter was reset, in MB; None on a CPU, which has no such counter."""
    if torch.device(device).type != "cuda":
        return None
    return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)


def available_bytes(device: str | torch.device) -> int:
    """Memory that is free for use: of a GPU, or of the machine."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return available[0] if available else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def machine_figures(device: str | torch.device) -> dict[str, Any]:
    """Name of the device, threads of PyTorch, and the versions of PyTorch and Python."""
    on_gpu = torch.device(device).type == "cuda"
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if on_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def library_versions() -> dict[str, str | None]:
    """Versions of what computes on a GPU besides PyTorch, its driver among them; None for what is not there."""
    return {"cuda": torch.version.cuda, "driver": _driver(), **{name: _version(name) for name in _LIBRARIES}}


def synchronize(device: str | torch.device) -> None:
    """Wait until the device has done all that was asked of it; a CPU always has."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    """The version that NVIDIA's kernel module tells, as in `Kernel Module  580.65.06  Sun ...`."""
    found = re.search(r"\s(\d+\.[\d.]+)\s", _DRIVER.read_text()) if _DRIVER.exists() else None
    return found[1] if found else None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
