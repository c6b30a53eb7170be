"""Threads do not wait long for each other where cores are shared, unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

SAID = "import os, cfworld; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_openmp_counts_to_3000_before_a_thread_sleeps_unless_told_otherwise(given: dict[str, str], found: str):
    bare = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    said = subprocess.run([sys.executable, "-c", SAID], env=bare | given, check=True, capture_output=True, text=True)
    assert said.stdout.strip() == found


def test_the_count_is_set_before_openmp_is_loaded():
    """It reads the environment once, when it is loaded with PyTorch."""
    code = "import sys, cfworld.world as world; print('torch' in sys.modules)"
    first = "import os, builtins; plain = builtins.__import__\n"
    watch = (
        "def watched(name, *rest, **more):\n"
        "    if name == 'torch' and 'GOMP_SPINCOUNT' not in os.environ: raise SystemExit('too late')\n"
        "    return plain(name, *rest, **more)\n"
        "builtins.__import__ = watched\n"
    )
    bare = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    said = subprocess.run([sys.executable, "-c", first + watch + code], env=bare, capture_output=True, text=True)
    assert (said.returncode, said.stdout.strip()) == (0, "True"), said.stderr
