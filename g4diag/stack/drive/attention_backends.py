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


def verifies_trees(name: str) -> bool:
    """Whether it takes drafts of more than one branch; with pages of one token, as sglang asks of most."""
    return name in ("triton", "fa4")


def has_graphs(name: str) -> bool:
    """Whether its metadata can be a CUDA graph's."""
    return name != "intel_amx"


def make_graph_buffers(backend: Any, rows: int, tokens: int) -> None:
    """What its CUDA graphs of up to `rows` rows and `tokens` tokens read, as large as a GPU's: a CPU's tree mask, which
    is of the drafted tokens alone, is intel_amx's own."""
    from sglang.srt.speculative import eagle_utils

    known = vars(eagle_utils).get("_is_cpu")
    try:
        if known is not None:
            eagle_utils._is_cpu = False
        backend.init_cuda_graph_state(rows, tokens)
    finally:
        if known is not None:
            eagle_utils._is_cpu = known


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


def steps_backend(name: str, runner: Any, topk: int, steps: int) -> Any:
    """What an EAGLE draft's worker would make of it: a backend a step, but for the last. topk: branches of one."""
    if name == "fa4":
        return flash_attention.steps_backend(runner, topk, steps)
    if name == "triton":
        return triton_attention.steps_backend(runner, topk, steps)
    from sglang.srt.layers.attention.trtllm_mha_backend import TRTLLMHAAttnMultiStepDraftBackend

    return TRTLLMHAAttnMultiStepDraftBackend(runner, topk, steps)
