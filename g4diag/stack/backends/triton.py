"""sglang's Triton kernels: TritonAttnBackend.

Its kernels take flat slots, kv_indptr and kv_indices: all keys of a row for full layers, and for sliding layers a
second pair clipped to the window, which is translated when it is planned, by the pool that the backend reads then. A
forward picks one of the two and calls the kernel with it, so the kernel's call is where it is seen. On extend, verify
and draft extend the indices cover what was there before; new keys go to the kernel beside them. Deterministic extend
joins the two for the kernel.

Judged: the indices of whole sequences. Of a draft tree (topk above 1), whose rows are branches, the bound alone. Not
judged: ranks that hold a part of a sequence (DCP), diffusion models, and a verify by the kernels of its own that AMD's
gfx95 has from 0.5.14 on.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from g4diag.hooks.anchors import has_module
from g4diag.model import IndexSpace
from g4diag.stack.backends.contract import Attention, Handed, KernelCall, Rail, shortest_query
from g4diag.stack.releases.contract import Point

_BACKEND = "sglang.srt.layers.attention.triton_backend.TritonAttnBackend"
_FORWARD = ("q", "k", "v", "layer", "forward_batch")
# Where the kernels live, by release.
_PACKAGES = ("sglang.kernels.ops.attention", "sglang.srt.layers.attention.triton_ops")
_BUFFERS = ("k_buffer", "v_buffer")
_DECODE = ("q", *_BUFFERS, "o")
_EXTEND = ("q_extend", "k_extend", "v_extend", "o_extend", *_BUFFERS, "qo_indptr")
_UNIFIED = ("q", "o", *_BUFFERS, "k_scale", "v_scale", "qo_indptr")


def _handed(backend: Any, layer: Any, forward_batch: Any, rail: Rail) -> Handed | None:
    metadata = backend.forward_metadata
    if getattr(backend, "dcp_size", 1) > 1 or getattr(backend, "dllm_attention", None) is not None:
        return None
    clipped = metadata.window_kv_indices
    is_clipped = clipped is not None and rail.indices_N.data_ptr() == clipped.data_ptr()
    is_full = rail.indices_N.data_ptr() == metadata.kv_indices.data_ptr()
    if is_clipped and is_full:  # both empty
        is_clipped, is_full = layer.sliding_window_size > -1, layer.sliding_window_size <= -1
    rows_B, branches = forward_batch.req_pool_indices, 1
    if (rows := len(rail.indptr_B1) - 1) > len(rows_B):
        branches = rows // len(rows_B)
        rows_B = rows_B.repeat_interleave(branches)
    joined = not (is_clipped or is_full)
    return Handed(
        table_BP=_whole(backend, rail.indices_N),
        lengths_B=_joined_keys_B(backend, forward_batch) if joined else _keys_on_device(backend, forward_batch, rows),
        rows_B=rows_B,
        space=IndexSpace.FULL_SLOT if is_full else None,
        is_copy=False,
        is_graph=_is_graph(backend),
        queries=shortest_query(forward_batch, int(metadata.max_extend_len or 1)),
        by_slot=True,
        indptr_B1=rail.indptr_B1,
        is_clipped=is_clipped or (joined and layer.sliding_window_size > -1),
        is_bound_only=branches > 1 or (_has_own_rail(forward_batch) and _drafts_are_clipped()),
    )


def _whole(backend: Any, indices_N: Any) -> Any:
    """In a graph the buffer that they are of: a draft's step is handed a view that is as long as its batch was when the
    graph was captured, and its kernel reads on."""
    for name in ("cuda_graph_kv_indices", "cuda_graph_window_kv_indices"):
        buffer = getattr(backend, name, None)
        if buffer is not None and buffer.data_ptr() == indices_N.data_ptr() and len(buffer) > len(indices_N):
            return buffer
    return indices_N


def _keys_on_device(backend: Any, forward_batch: Any, rows: int) -> Any:
    """Keys a row that the batch asks for; where it does not say, as many as the unclipped indices have."""
    mode, own = forward_batch.forward_mode, None
    if mode.is_target_verify() or (mode.is_decode_or_idle() and not _has_own_rail(forward_batch)):
        own = forward_batch.seq_lens
    elif not mode.is_decode_or_idle():
        own = getattr(forward_batch, "extend_prefix_lens", None)
    if own is not None and len(own) >= rows:
        return own[:rows]
    indptr_B1 = backend.forward_metadata.kv_indptr[: rows + 1]
    return indptr_B1[1:] - indptr_B1[:-1]


def _joined_keys_B(backend: Any, forward_batch: Any) -> Any:
    """Prefix and new keys of each row."""
    if (new_B := getattr(forward_batch, "extend_seq_lens", None)) is not None:
        return forward_batch.extend_prefix_lens + new_B
    return forward_batch.seq_lens + int(backend.forward_metadata.max_extend_len)


def _has_own_rail(forward_batch: Any) -> bool:
    """A step of a multi-step draft, whose indices come with the batch."""
    return getattr(forward_batch.spec_info, "kv_indptr", None) is not None


def _drafts_are_clipped() -> bool:
    """Whether the server clips what a draft's steps read, to a window and the first keys: such a rail has gaps."""
    if not _has_context():
        return False
    from sglang.srt.runtime_context import get_spec

    return bool(getattr(get_spec(), "speculative_draft_window_size", 0))


@cache
def _has_context() -> bool:
    """Looked up once: it is asked for each layer of a draft's step."""
    return has_module("sglang.srt.runtime_context")


def _is_graph(backend: Any) -> bool:
    buffer, metadata = getattr(backend, "cuda_graph_kv_indices", None), backend.forward_metadata
    return buffer is not None and metadata is not None and metadata.kv_indices.data_ptr() == buffer.data_ptr()


def _graph_tables(backend: Any) -> bool | None:
    if not hasattr(backend, "cuda_graph_kv_indices"):
        return None
    return getattr(backend, "cuda_graph_window_kv_indices", None) is not None


def _keys_B(backend: Any, forward_batch: Any, serves_frozen_draft: bool) -> Any:
    del serves_frozen_draft  # whose batch has the lengths that it reads
    mode = forward_batch.forward_mode
    if mode.is_decode_or_idle() and _has_own_rail(forward_batch):
        return None
    rows = len(forward_batch.req_pool_indices)
    if mode.is_draft_extend_v2() and forward_batch.extend_prefix_lens is None:  # in a graph
        return (forward_batch.seq_lens - forward_batch.extend_seq_lens).clamp(min=0)
    lens_B = _keys_on_device(backend, forward_batch, rows)
    if getattr(backend, "enable_deterministic", False) and not mode.is_decode_or_idle():
        lens_B = _joined_keys_B(backend, forward_batch)
    return lens_B


def _swa_state(backend: Any) -> Any:
    """What it reads: it asks the pool itself whenever it plans."""
    pool = backend.token_to_kv_pool
    return pool if hasattr(pool, "full_to_swa_index_mapping") else None


def _call(name: str, before: tuple[str, ...]) -> list[KernelCall]:
    """A kernel whose indptr and indices follow these parameters, wherever a release has it."""
    first = len(before)

    def table(*args: Any, **kwargs: Any) -> Rail | None:
        indptr = args[first] if len(args) > first else kwargs.get("kv_indptr")
        indices = args[first + 1] if len(args) > first + 1 else kwargs.get("kv_indices")
        return None if indptr is None or indices is None else Rail(indptr, indices)

    def handing(rail: Rail, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if len(args) > first + 1:
            return (*args[:first], *rail, *args[first + 2 :]), kwargs
        return args, kwargs | {"kv_indptr": rail.indptr_B1, "kv_indices": rail.indices_N}

    module = "decode_attention" if name.startswith("decode") else "extend_attention"
    names = (*before, "kv_indptr", "kv_indices")
    return [KernelCall(table, handing, Point(f"{package}.{module}.{name}", names), name) for package in _PACKAGES]


ATTENTION = Attention(
    name="triton",
    backend=_BACKEND,
    built=Point(f"{_BACKEND}.__init__", ("model_runner",)),
    calls=(
        *_call("decode_attention_fwd", _DECODE),
        *_call("extend_attention_fwd", _EXTEND),
        *_call("extend_attention_fwd_unified", _UNIFIED),
    ),
    forwards=(Point(f"{_BACKEND}.forward_decode", _FORWARD), Point(f"{_BACKEND}.forward_extend", _FORWARD)),
    handed=_handed,
    metadata_is_graph=_is_graph,
    swa_state=_swa_state,
    graph_tables=_graph_tables,
    keys_B=_keys_B,
)
