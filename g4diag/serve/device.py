"""Whether the server has a device to run on: told in a second, before sglang takes a minute over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from g4diag.errors import CannotRunError
from g4diag.hazards.command_line import parse
from g4diag.servers import hardware

# Devices of others, which nvidia-smi does not list: AMD's, Intel's and Habana's, Ascend's. Nothing is refused by them.
_OTHERS = ("/dev/kfd", "/dev/dri", "/dev/accel", "/dev/davinci0")


def require(arguments: Sequence[str], environ: Mapping[str, str], others: Sequence[str] = _OTHERS) -> None:
    """CannotRunError in one line where the server would want a CUDA device and there is none; nothing where it was
    told another device, or where one may be there that only sglang can tell."""
    device = parse(arguments).get("device", "cuda")
    asks = {"-h", "--help", "--version"} & set(arguments)
    if asks or not device.startswith("cuda") or any(Path(path).exists() for path in others):
        return
    if not hardware.gpus():
        raise CannotRunError(
            "not started: no usable GPU: nvidia-smi lists none, and sglang serves on CUDA unless told another --device."
            " Without a GPU: `g4diag repro --list` (runs on a CPU), `g4diag inspect` (reads what another server left)"
        )
    if environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        hidden = environ["CUDA_VISIBLE_DEVICES"]
        raise CannotRunError(f"not started: no usable GPU: CUDA_VISIBLE_DEVICES={hidden!r} hides every one from sglang")
    if hardware.cuda_versions()["torch"] is None:
        raise CannotRunError("not started: no usable GPU: the installed torch is a build without CUDA")
