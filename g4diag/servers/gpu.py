"""Whether a real server can be started here, without opening a CUDA context: that belongs to the server."""

from __future__ import annotations

from g4diag.errors import CannotRunError
from g4diag.model.doctor import Gpu
from g4diag.servers import hardware

WANTED = "a CUDA device of compute capability 9.0 or newer"


def require_gpu() -> dict[str, str]:
    """name, capability and driver of the first GPU. CannotRunError in one line: none, too old, or a torch without
    CUDA."""
    found = hardware.gpus()
    if not found:
        raise CannotRunError(f"GPU: wanted {WANTED}, found none")
    gpu, capability = found[0], hardware.capability_of(found)
    if capability is None or capability < (9, 0):
        raise CannotRunError(f"GPU: wanted {WANTED}, found {gpu.name} ({gpu.capability or 'not told'})")
    cuda = hardware.cuda_versions()
    if cuda["torch"] is None:
        raise CannotRunError(f"torch: wanted a CUDA build for {gpu.name}, found one for the CPU")
    return _row(gpu) | {f"cuda_{side}": version for side, version in cuda.items() if version}


def usable() -> bool:
    """Whether `require_gpu` would be satisfied."""
    try:
        require_gpu()
    except CannotRunError:
        return False
    return True


def _row(gpu: Gpu) -> dict[str, str]:
    return {"name": gpu.name, "capability": gpu.capability, "driver": gpu.driver}
