"""The attention backends that a CPU can drive, by the names that sglang's flags have."""

from __future__ import annotations

from typing import Any

from g4diag.stack.drive import (
    flash_attention,
    flashinfer_attention,
    intel_amx_attention,
    sgl_kernel_stand_in,
    triton_attention,
)


def drivable() -> tuple[str, ...]:
    """Those that the installed release lets be built on a CPU."""
    fa4 = ("fa4",) if flash_attention.is_here() else ()
    return ("trtllm_mha", "triton", *fa4, *(("intel_amx",) if sgl_kernel_stand_in.is_needed() else ()))


def has_graphs(name: str) -> bool:
    """Whether its metadata can be a CUDA graph's."""
    return name != "intel_amx"


def attention_backend(name: str, runner: Any, steps: int = 0) -> Any:
    """What ModelRunner would make of --attention-backend NAME for this runner. steps: of an EAGLE draft, whose first
    step it serves."""
    if name == "fa4":
        return flash_attention.backend(runner, steps)
    if name == "triton":
        return triton_attention.backend(runner)
    if name == "flashinfer":
        return flashinfer_attention.backend(runner)
    if name == "intel_amx":
        return intel_amx_attention.backend(runner, steps)
    from sglang.srt.layers.attention.trtllm_mha_backend import TRTLLMHAAttnBackend

    return TRTLLMHAAttnBackend(runner)
