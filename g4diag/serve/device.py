"""Whether the server has a device to run on: told in a second, before sglang takes a minute over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import glob

from g4diag.errors import CannotRunError
from g4diag.hazards.command_line import parse
from g4diag.servers import hardware

# Device files of others, which nvidia-smi does not list: AMD's, Intel's and Habana's, Ascend's. Where there is one,
# sglang is left to tell. And NVIDIA's own, in a container or a WSL that lacks nvidia-smi.
_OTHERS = ("/dev/kfd", "/dev/dri", "/dev/accel", "/dev/davinci[0-9]*")
_NVIDIAS = ("/dev/nvidia[0-9]*", "/dev/dxg")


def require(
    arguments: Sequence[str], environ: Mapping[str, str], others: Sequence[str] = _OTHERS, own: Sequence[str] = _NVIDIAS
) -> None:
    """CannotRunError in one line where the server would want a CUDA device and there is none; nothing where it was
    told another device, or where one may be there that only sglang can tell."""
    device = parse(arguments).get("device", "cuda")
    asks = {"-h", "--help", "--version"} & set(arguments)
    if asks or not device.startswith("cuda") or any(map(glob, others)):
        return
    if not hardware.gpus() and not any(map(glob, own)):
        raise CannotRunError(
            "not started: no usable GPU: nvidia-smi lists none, and sglang serves on CUDA unless told another --device."
            " Without a GPU: `g4diag repro --list` (runs on a CPU), `g4diag inspect` (reads what another server left)"
        )
    if environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        hidden = environ["CUDA_VISIBLE_DEVICES"]
        raise CannotRunError(f"not started: no usable GPU: CUDA_VISIBLE_DEVICES={hidden!r} hides every one from sglang")
    if hardware.cuda_versions()["torch"] is None:
        raise CannotRunError("not started: no usable GPU: the installed torch is a build without CUDA")
