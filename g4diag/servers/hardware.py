"""The GPU, its driver and CUDA, without importing torch or CUDA."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from g4diag.model.doctor import Gpu

_SECONDS = 20


def gpus() -> tuple[Gpu, ...]:
    """GPUs that nvidia-smi lists; none without it."""
    rows = _smi("--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")
    cells = ([cell.strip() for cell in row.split(",")] for row in rows.splitlines() if row.count(",") == 2)
    return tuple(
        Gpu(name, capability if capability[:1].isdigit() else "", driver) for name, capability, driver in cells
    )


def capability_of(found: Sequence[Gpu]) -> tuple[int, int] | None:
    """(9, 0) and the like, of the first GPU; None without one, or when the driver did not say."""
    major, dot, minor = (found[0].capability if found else "").partition(".")
    return (int(major), int(minor)) if dot and major.isdigit() and minor.isdigit() else None


def cuda_versions() -> dict[str, str | None]:
    """driver: the newest CUDA it serves. torch: the one torch was built with. None: cannot be told."""
    served = re.search(r"CUDA Version\s*:\s*([\d.]+)", _smi())
    return {"driver": served.group(1) if served else None, "torch": _torch_cuda()}


def _smi(*arguments: str) -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _torch_cuda() -> str | None:
    """From the text of torch/version.py."""
    try:
        spec = find_spec("torch")
    except (ImportError, ValueError):
        return None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        try:
            text = (Path(folder) / "version.py").read_text(encoding="utf-8")
        except OSError:
            continue
        if found := re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE):
            return found.group(1)
    return None
