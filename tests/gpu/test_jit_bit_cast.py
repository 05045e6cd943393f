"""The rewritten kernels build and load with the real JIT, for two ranks; running them takes two GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BUILD = """
import torch
from g4diag.patches.applying import applied
from sglang.jit_kernel import all_reduce
with applied(["jit-bit-cast"]):
    modules = [
        all_reduce._jit_custom_all_reduce_push_module(torch.bfloat16, 2),
        all_reduce._jit_custom_all_reduce_pull_module(torch.bfloat16, 2),
        all_reduce._jit_fused_parallel_qknorm_module(torch.bfloat16, 2, 512, 512),
    ]
assert all(module is not None for module in modules)
"""


@pytest.mark.gpu
def test_the_three_kernels_build_and_load(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("sglang")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    environ = {name: text for name, text in os.environ.items() if name not in ("TRITON_INTERPRET", "G4DIAG_PATCHES")}
    environ |= {"XDG_CACHE_HOME": str(tmp_path / "g4"), "TVM_FFI_CACHE_DIR": str(tmp_path / "tvm")}
    command = [sys.executable, "-c", BUILD]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert len(list((tmp_path / "g4" / "g4diag" / "jit").rglob("*.cuh"))) == 3
    sources = [path.read_text() for path in (tmp_path / "tvm").rglob("*.cu")]
    assert len(sources) == 3 and all(str(tmp_path / "g4") in source for source in sources)
