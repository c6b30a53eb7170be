"""What a figure depends on besides the code."""

from pathlib import Path

import pytest

from cfworld.metrics import machine


def test_the_driver_is_read_off_its_kernel_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "version"
    monkeypatch.setattr(machine, "_DRIVER", told)
    assert machine.library_versions()["driver"] is None
    told.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:19:37 UTC 2025\n")
    assert machine.library_versions()["driver"] == "580.65.06"
    told.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124  Release Build\n")
    assert machine.library_versions()["driver"] == "570.124"


def test_a_library_has_its_version_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_LIBRARIES", ("torch", "no_such_library"))
    versions = machine.library_versions()
    assert versions["torch"]
    assert versions["no_such_library"] is None
