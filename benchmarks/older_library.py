"""sglang's custom all-reduce built by its own JIT where the C++ library has no std::bit_cast: as released, and cured.

    .venv/bin/python benchmarks/older_library.py --compilers FOLDER     # a `gcc` and `g++` of GCC 10 in it

Wants nvcc of CUDA 12 or later in $CUDA_HOME, and no GPU: it is built for sm_90a and loaded, not called. A process of
its own each, with an empty cache. Exit 0: as released it stops at std::bit_cast, with jit-bit-cast it is built and
loaded. 1: anything else. 3: the compiler has std::bit_cast, so there is nothing to show, or there is no nvcc.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILT, MISSING = "built and loaded", 'namespace "std" has no member "bit_cast"'
CHILD = f"""
import sys
from contextlib import nullcontext
from g4diag.stack.drive import cpu
cpu.prepare_environment()
from sglang.kernels.jit.utils.arch import override_jit_cuda_arch
from sglang.kernels.ops.communication import all_reduce
from g4diag.patches.applying import applied
with override_jit_cuda_arch(9, 0, "a"), applied(["jit-bit-cast"]) if sys.argv[1] == "cured" else nullcontext():
    all_reduce._init_communicator()
print({BUILT!r})
"""


def build(how: str, environment: dict[str, str]) -> tuple[str, float]:
    """(what came of it, seconds). how: "as released" or "cured"."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="g4-older-") as folder:
        fresh = {"XDG_CACHE_HOME": folder, "SGLANG_CACHE_DIR": str(Path(folder) / "sglang")}
        ran = subprocess.run(
            [sys.executable, "-c", CHILD, how],
            env=environment | fresh,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    said = ran.stdout + ran.stderr
    found = next((words for words in (BUILT, MISSING) if words in said), said.strip().splitlines()[-1] if said else "")
    return found, time.monotonic() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compilers", type=Path, help="a folder whose compilers come before those of PATH")
    options = parser.parse_args()
    from g4diag.patches.kernel_sources import lacks_bit_cast

    environment = dict(os.environ)
    if options.compilers:
        environment["PATH"] = os.pathsep.join([str(options.compilers.absolute()), environment["PATH"]])
    environment.setdefault("CUDA_HOME", "/usr/local/cuda")
    os.environ["PATH"] = environment["PATH"]  # nvcc picks its host compiler there, whatever $CXX is
    compiler = shutil.which("g++")
    nvcc = Path(environment["CUDA_HOME"]) / "bin" / "nvcc"
    if not compiler or not nvcc.is_file() or not lacks_bit_cast(str(nvcc)):
        print(f"older_library: wanted an nvcc whose g++ has no std::bit_cast, found {nvcc} and {compiler}")
        return 3
    print(subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout.splitlines()[0])
    print(f"CXX: {environment.get('CXX', 'not set')}")
    found = {}
    for how in ("as released", "cured"):
        found[how], seconds = build(how, environment)
        print(f"{how}: {found[how]} ({seconds:.0f} s)", flush=True)
    return 0 if found == {"as released": MISSING, "cured": BUILT} else 1


if __name__ == "__main__":
    sys.exit(main())
