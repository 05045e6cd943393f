"""The GPU, its driver and CUDA, and which attention backends can run on it, without importing torch or CUDA."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from g4diag.model.doctor import BackendRow, Gpu

_SECONDS = 20
_ARCHES = {9: "sm90", 10: "sm100", 12: "sm120"}


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


def attention_backends(capability: tuple[int, int] | None) -> tuple[BackendRow, ...]:
    """The backends Gemma-4 takes in 0.5.13, and whether prefill and decode can run on this GPU."""
    major = None if capability is None else capability[0]
    known = None if major is None else major in _ARCHES
    here = "no GPU seen" if capability is None else "this is sm{}{}".format(*capability)
    xqa = ", through FlashInfer's XQA: head_dim at most 256 before sglang 0.5.19" if major in (9, 12) else ""
    return (
        BackendRow(
            "trtllm_mha",
            None if major is None else major == 10,
            known,
            f"prefill on sm100 (before sglang 0.5.19 only there); decode on sm90, sm100, sm120{xqa}; {here}",
        ),
        BackendRow("triton", None if major is None else True, None if major is None else True, f"any GPU; {here}"),
    )


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
