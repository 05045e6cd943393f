"""`step_hooks.py`: a short run times hooks, counts what a GPU would be asked for and judges a healthy server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sglang")
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "step_hooks.py"


def test_a_step_tells_a_draft_and_its_target_of_one_batch_with_one_copy() -> None:
    """It changes sglang's classes for good, so it has a process of its own."""
    command = [sys.executable, str(BENCHMARK), "--steps", "60", "--requests", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (draft,) = [line for line in lines if "before" in line and "FrozenKVMTPCudaGraphRunner" in line]
    (target,) = [line for line in lines if "before" in line and re.search(r"\.(Decode)?CudaGraphRunner\.", line)]
    assert "1.00 x" in draft and "{'copy_': 1.0}" in draft
    assert "1.00 x" in target and "{" not in target
    assert re.fullmatch(r" *[1-9]\d*\.\d\d us a step, \d+\.\d\d operators", lines[-1])
