"""FlashInfer's wrappers: FlashInferAttnBackend.

A wrapper is planned with flat slots, which it keeps in buffers of its own, and is called with a query and K/V alone:
the slots are read from it at its call, and replaced in it. Where the model has a window there are two: the first has a
row's last keys, translated when it is planned, the second all of them. A prefill may be split: new keys go to a ragged
wrapper, which takes no slots, and only what was there before is read through a paged one.

Judged: the indices of whole sequences. The bound alone: of a verify whose rows differ, and of a multi-step draft, whose
rows may be branches or clipped to a window of the draft's. Not judged: cross attention, diffusion models, copies of the
K/V in another type.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from g4diag.model import IndexSpace
from g4diag.stack.backends.contract import Attention, Handed, KernelCall, Rail, as_called, rows_differ, shortest_query
from g4diag.stack.releases.contract import Point

_BACKEND = "sglang.srt.layers.attention.flashinfer_backend.FlashInferAttnBackend"
_FORWARD = ("q", "k", "v", "layer", "forward_batch")
_DECODE = "flashinfer.decode.BatchDecodeWithPagedKVCacheWrapper"
_PREFILL = "flashinfer.prefill.BatchPrefillWithPagedKVCacheWrapper"
_WORKSPACES = ("prefill_uses_dequant_workspace", "decode_uses_dequant_workspace")


def _handed(backend: Any, layer: Any, forward_batch: Any, rail: Rail) -> Handed | None:
    if backend.is_dllm_model or _dispatch(backend) == "CROSS_ATTENTION":
        return None
    if any(getattr(backend, name, False) for name in _WORKSPACES):
        return None
    is_sliding = _dispatch(backend) == "SLIDING_WINDOW" and layer.sliding_window_size != -1
    rows, rows_B = len(rail.indptr_B1) - 1, forward_batch.req_pool_indices
    if rows > len(rows_B):
        rows_B = rows_B.repeat_interleave(rows // len(rows_B))
    asked_B = _asked_B(backend, forward_batch)
    return Handed(
        table_BP=rail.indices_N,
        lengths_B=rail.indptr_B1.diff() if asked_B is None else asked_B[:rows],
        rows_B=rows_B[:rows],
        space=None if is_sliding else IndexSpace.FULL_SLOT,
        is_copy=False,
        is_graph=_is_graph(backend),
        queries=shortest_query(forward_batch, _longest(forward_batch.spec_info)),
        by_slot=True,
        indptr_B1=rail.indptr_B1,
        is_clipped=is_sliding,
        is_bound_only=asked_B is None,
    )


def _dispatch(backend: Any) -> str:
    """Why it has two wrappers: the name of upstream's reason, "" for none."""
    return getattr(backend.dispatch_reason, "name", "")


def _longest(spec_info: Any) -> int:
    """Queries a row of a verify or of a captured draft extend."""
    return max(1, *(int(getattr(spec_info, name, None) or 1) for name in ("draft_token_num", "num_tokens_per_req")))


def _asked_B(backend: Any, forward_batch: Any) -> Any:
    """int[B]: keys a row that the batch asks the paged wrapper for; None where it does not tell."""
    mode, spec_info = forward_batch.forward_mode, forward_batch.spec_info
    if mode.is_target_verify():
        return None if rows_differ(spec_info) else forward_batch.seq_lens + int(spec_info.draft_token_num)
    if mode.is_decode_or_idle():
        is_draft_step = getattr(spec_info, "kv_indptr", None) is not None  # whose indices come with the batch
        return None if is_draft_step else forward_batch.seq_lens
    return forward_batch.extend_prefix_lens if backend.forward_metadata.use_ragged else forward_batch.seq_lens


def _keys_B(backend: Any, forward_batch: Any, serves_frozen_draft: bool) -> Any:
    del serves_frozen_draft  # whose batch has the lengths that it reads
    return _asked_B(backend, forward_batch)


def _is_graph(backend: Any) -> bool:
    metadata = backend.forward_metadata
    wrappers = getattr(metadata, "decode_wrappers", None) or getattr(metadata, "prefill_wrappers", None) or ()
    return any(wrapper.is_cuda_graph_enabled for wrapper in wrappers)


def _swa_state(backend: Any) -> Any:
    """The pool that the first wrapper's slots are translated for; where there is one wrapper, those of writes."""
    if hasattr(backend, "_swa_kv_pool"):
        return backend._swa_kv_pool
    # Up to 0.5.13 a first wrapper's are whenever the allocator is of an SWA pool, which a draft may only share.
    if _dispatch(backend) == "SLIDING_WINDOW":
        pool = backend.indices_updater_decode.token_to_kv_pool_allocator.get_kvcache()
        return pool if hasattr(pool, "full_to_swa_index_mapping") else None
    return backend.token_to_kv_pool if backend.use_sliding_window_kv_pool else None


def _graph_tables(backend: Any) -> bool | None:
    """Of now: a replay plans anew, so that capture fixes nothing."""
    return _swa_state(backend) is not None if hasattr(backend, "cuda_graph_kv_indices") else None


def _planned(wrapper: Any, *args: Any, **kwargs: Any) -> Rail | None:
    indices = wrapper._paged_kv_indices_buf
    return None if indices is None else Rail(wrapper._paged_kv_indptr_buf, indices)


@contextmanager
def _placing(rail: Rail, wrapper: Any, *args: Any, **kwargs: Any) -> Iterator[None]:
    planned, wrapper._paged_kv_indices_buf = wrapper._paged_kv_indices_buf, rail.indices_N
    try:
        yield
    finally:
        wrapper._paged_kv_indices_buf = planned


def _call(method: str) -> KernelCall:
    return KernelCall(_planned, as_called, Point(method, ("q", "paged_kv_cache")), placing=_placing)


ATTENTION = Attention(
    name="flashinfer",
    backend=_BACKEND,
    built=Point(f"{_BACKEND}.__init__", ("model_runner",)),
    calls=(_call(f"{_DECODE}.forward"), _call(f"{_PREFILL}.forward"), _call(f"{_PREFILL}.forward_return_lse")),
    forwards=(Point(f"{_BACKEND}.forward_decode", _FORWARD), Point(f"{_BACKEND}.forward_extend", _FORWARD)),
    handed=_handed,
    metadata_is_graph=_is_graph,
    swa_state=_swa_state,
    graph_tables=_graph_tables,
    keys_B=_keys_B,
)
