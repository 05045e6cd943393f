"""fa4 on a CPU: the real FlashAttentionBackend and the real call of its kernel, for which a reference stands in.

Where the installed release has no fa4, there is nothing to drive. sgl_kernel's fa3 wants libcuda at import.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from g4diag.errors import CannotRunError
from g4diag.hooks.anchors import has_module
from g4diag.stack.drive.reference_kernel import bound

_KERNEL = "sglang.kernels.ops.attention.flash_attention_v4"
_NAME = "flash_attn_with_kvcache"


def is_here() -> bool:
    """Whether the installed release has fa4."""
    return has_module(_KERNEL)


def backend(runner: Any, steps: int = 0) -> Any:
    """fa4 for this runner. steps: of an EAGLE draft, whose multi-step backend makes one like this for its first step; 0
    for any other. CannotRunError where it cannot be driven."""
    _ready(runner)
    from sglang.srt.layers.attention.flashattention_backend import FlashAttentionBackend

    return FlashAttentionBackend(runner, topk=int(steps > 0), speculative_num_steps=steps, fa_impl_ver=4)


def steps_backend(runner: Any, topk: int, steps: int) -> Any:
    """fa4 for each step of an EAGLE draft with so many branches. CannotRunError where it cannot be driven."""
    _ready(runner)
    from sglang.srt.layers.attention.flashattention_backend import FlashAttentionMultiStepBackend

    return FlashAttentionMultiStepBackend(runner, topk, steps, fa_impl_ver=4)


def _ready(runner: Any) -> None:
    """Give a model what it asks of one besides what other backends do."""
    if not is_here():
        raise CannotRunError(f"fa4 on a CPU: wanted {_KERNEL}, found none in this release")
    from sglang.srt.configs.model_config import AttentionArch

    runner.model_config.attention_arch = AttentionArch.MHA
    runner.model_config.is_local_attention_model = False


@contextmanager
def kernel(decode: Callable[..., Any], prefill: Callable[..., Any]) -> Iterator[None]:
    """For the body, fa4's kernel is `decode` where each row has one query, else `prefill`; both are called as
    FlashInfer's trtllm kernels are. Of an attention in two halves, as over a draft tree, the first is the result.
    Nothing where the release has no fa4."""
    if not is_here():
        yield
        return
    module: Any = import_module(_KERNEL)
    original = getattr(module, _NAME)
    setattr(module, _NAME, bound(original, functools.partial(_as_trtllm, decode, prefill)))
    try:
        with unmerged_halves():
            yield
    finally:
        setattr(module, _NAME, original)


@contextmanager
def unmerged_halves() -> Iterator[None]:
    """For the body, merging an attention's two halves, which is compiled, gives the first."""
    backends: Any = import_module("sglang.srt.layers.attention.flashattention_backend")
    original = backends.merge_state_v2
    backends.merge_state_v2 = lambda out, lse, *rest: (out, lse)
    try:
        yield
    finally:
        backends.merge_state_v2 = original


def _as_trtllm(
    decode: Callable[..., Any],
    prefill: Callable[..., Any],
    *,
    q: Any,
    k_cache: Any,
    v_cache: Any,
    page_table: Any,
    cache_seqlens: Any,
    cu_seqlens_q: Any,
    softmax_scale: float,
    window_size: tuple[int, int],
    return_softmax_lse: bool = False,
    **rest: Any,
) -> Any:
    """k_cache, v_cache: [pages, page size, K, D], which FlashInfer's have as [pages, K, page size, D]."""
    called = {
        "query": q,
        "kv_cache": (k_cache.transpose(1, 2), v_cache.transpose(1, 2)),
        "block_tables": page_table,
        "seq_lens": cache_seqlens,
        "bmm1_scale": softmax_scale,
        "window_left": window_size[0],
    }
    if bool((cu_seqlens_q.diff() == 1).all()):
        out = decode(q_len_per_req=1, **called)
    else:
        out = prefill(cum_seq_lens_q=cu_seqlens_q, **called)
    return (out, out.new_zeros(out.shape[1], len(out))) if return_softmax_lse else out
