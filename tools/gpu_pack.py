#!/usr/bin/env python3
"""Pack what a CUDA machine with its own torch lacks to serve the sglang of this environment.

    gpu_pack.py FOLDER      run by the Python 3.12 of the stack (make gpu-pack)

FOLDER gets site.tar.xz where the machine's torch 2.11 will do, else q00/part.00, q01/part.01, ... of PART bytes, and
`count`, in q00 too: the release's torch and all that goes with it, its own NCCL for several GPUs. A folder a part: one
travels at a time beside this checkout, 64 MiB in all. What is packed is decided in ../shared/gpu.
Exit codes: 0; 2 usage; 3 no packer.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "gpu"
HOST_TORCH = "2.11."
PART = 48 * 2**20


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
    # An EAGLE worker imports FlashMLA before it captures its draft's extend, whichever its backend is.
    module.NOT_ASKED = [name for name in module.NOT_ASKED if name != "sgl-flash-mla"]
    sys.argv = [str(packer), str(folder)]
    status: int = module.main()
    made = cut(sorted(folder.glob("part.*")), folder)
    for place in (folder, *([folder / "q00"] if made else [])):
        (place / "count").write_text(f"{made}\n")
    return status or (0 if made else 3)


def cut(parts: Sequence[Path], folder: Path, size: int = PART) -> int:
    """Cut these files, one after the other one archive, into folder/qNN/part.NN of `size` bytes, and remove them; how
    many there are now."""
    made, held = 0, b""
    for path in parts:
        held += path.read_bytes()
        path.unlink()
        while len(held) >= size or (held and path == parts[-1]):
            (folder / f"q{made:02d}").mkdir(exist_ok=True)
            (folder / f"q{made:02d}" / f"part.{made:02d}").write_bytes(held[:size])
            made, held = made + 1, held[size:]
    return made


if __name__ == "__main__":
    sys.exit(main())
