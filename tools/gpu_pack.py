#!/usr/bin/env python3
"""Pack what a CUDA machine with its own torch lacks to serve the sglang of this environment.

    gpu_pack.py FOLDER      run by the Python 3.12 of the stack (make gpu-pack)

FOLDER gets site.tar.xz where the machine's torch 2.11 will do, else part.00, part.01, ... and `count`: the release's
torch and all that goes with it, its own NCCL for several GPUs. What is packed is decided in ../shared/gpu.
Exit codes: 0; 2 usage; 3 no packer.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib import metadata
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "gpu"
HOST_TORCH = "2.11."


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder, alone = Path(sys.argv[1]), metadata.version("torch").startswith(HOST_TORCH)
    packer = SHARED / ("pack_site.py" if alone else "pack_release.py")
    if not packer.exists():
        print(f"gpu_pack: wanted {packer}, found none", file=sys.stderr)
        return 3
    folder.mkdir(parents=True, exist_ok=True)
    if alone:
        return subprocess.run([sys.executable, packer, folder / "site.tar.xz"], check=False).returncode
    spec = importlib.util.spec_from_file_location("pack_release", packer)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.KEPT_NVIDIA = (*module.KEPT_NVIDIA, "nvidia-nccl")
    sys.argv = [str(packer), str(folder)]
    status: int = module.main()
    parts = sorted(folder.glob("part.*"))
    (folder / "count").write_text(f"{len(parts)}\n")
    return status or (0 if parts else 3)


if __name__ == "__main__":
    sys.exit(main())
