"""A server without a device to run on is refused before sglang is started, and no other is."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4diag.errors import CannotRunError
from g4diag.model.doctor import Gpu
from g4diag.serve import device
from g4diag.servers import hardware

H100 = (Gpu("NVIDIA H100", "9.0", "580.00"),)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    def use(gpus: tuple[Gpu, ...], torch: str | None = "13.0") -> None:
        monkeypatch.setattr(hardware, "gpus", lambda: gpus)
        monkeypatch.setattr(hardware, "cuda_versions", lambda: {"driver": "13.0", "torch": torch})

    return use


@pytest.mark.parametrize(
    ("gpus", "torch", "environ", "says"),
    [
        ((), "13.0", {}, "nvidia-smi lists none"),
        (H100, "13.0", {"CUDA_VISIBLE_DEVICES": ""}, "hides every one"),
        (H100, "13.0", {"CUDA_VISIBLE_DEVICES": "-1"}, "hides every one"),
        (H100, None, {}, "without CUDA"),
    ],
)
def test_no_usable_gpu_is_3_in_one_line(machine, gpus, torch, environ, says) -> None:
    machine(gpus, torch)
    with pytest.raises(CannotRunError, match="no usable GPU") as refused:
        device.require(("--model", "x"), environ, others=(), own=())
    assert says in str(refused.value) and "\n" not in str(refused.value) and refused.value.exit_code == 3


def test_a_server_that_may_run_is_let_be(machine, tmp_path: Path) -> None:
    machine(H100)
    device.require(("--model", "x"), {"CUDA_VISIBLE_DEVICES": "1"}, others=())
    machine((), None)
    device.require(("--model", "x", "--device", "cpu"), {}, others=())
    device.require(("--model", "x", "--device=xpu"), {}, others=())
    device.require(("--model", "x"), {}, others=(str(tmp_path),))
    machine((), "13.0")
    device.require(("--model", "x"), {}, others=(), own=(str(tmp_path / "*"), str(tmp_path)))  # no nvidia-smi there
    machine((), None)
    device.require(("--help",), {}, others=(), own=())
