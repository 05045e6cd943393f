"""FlashAttention 3 and 4: FlashAttentionBackend.

No method of it hands a layer its table: each forward picks one and calls the kernel with it, so the kernel's call is
where it is seen. Metadata holds a table in full pages and, where the backend takes its pool for an SWA pool, one in SWA
pages. That is a boolean, asked of the runner's own pool in the constructor: what the views of a frozen-KV draft leave
behind (alive in 0.5.23 on fa4). Judged: the tables of whole sequences. Not judged: those of a draft tree (topk above
1), of local attention and of an encoder.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from g4diag.model import IndexSpace
from g4diag.stack.backends.contract import Attention, Handed, keyword, shortest_query
from g4diag.stack.releases.contract import Point

_MODULE = "sglang.srt.layers.attention.flashattention_backend"
_BACKEND = f"{_MODULE}.FlashAttentionBackend"
_FORWARD = ("q", "k", "v", "layer", "forward_batch")
_GRAPH_METADATA = (
    "decode_cuda_graph_metadata",
    "target_verify_metadata",
    "draft_extend_metadata",
    "draft_decode_metadata_topk_normal",
    "target_verify_metadata_topk_normal",
)


def _handed(backend: Any, layer: Any, forward_batch: Any, table: Any) -> Handed | None:
    metadata = backend.forward_metadata
    if metadata.swa_page_table is not None and table.data_ptr() == metadata.swa_page_table.data_ptr():
        space, is_copy = IndexSpace.SWA_PAGE, False
    elif metadata.page_table is not None and table.data_ptr() == metadata.page_table.data_ptr():
        space, is_copy = IndexSpace.FULL_PAGE, False
    else:
        return None
    if backend.topk > 1 and forward_batch.spec_info is not None:  # a prefix: the rest of the keys is in another table
        return None
    return Handed(
        table_BP=table,
        lengths_B=metadata.cache_seqlens_int32,
        rows_B=forward_batch.req_pool_indices,
        space=space,
        is_copy=is_copy,
        is_graph=_is_graph(backend),
        queries=shortest_query(forward_batch, int(metadata.max_seq_len_q)),
    )


def _is_graph(backend: Any) -> bool:
    tables = (getattr(backend, name, {}) for name in _GRAPH_METADATA)
    return any(backend.forward_metadata is known for table in tables for known in table.values())


def _swa_state(backend: Any) -> Any:
    """The pool that it reads, where it takes that for an SWA pool."""
    return backend.token_to_kv_pool if backend.use_sliding_window_kv_pool else None


def _graph_tables(backend: Any) -> bool | None:
    buffers = backend.decode_cuda_graph_metadata
    return buffers.get("swa_page_table") is not None if "page_table" in buffers else None


def _keys_B(backend: Any, forward_batch: Any, serves_frozen_draft: bool) -> Any:
    """The batch's lengths, and what the forward's kind adds to them. A frozen-KV draft's metadata counts no new key."""
    lens_B = forward_batch.seq_lens.detach().cpu().numpy().astype(np.int64)
    mode = forward_batch.forward_mode
    if mode.is_target_verify():
        return lens_B + int(backend.forward_metadata.max_seq_len_q)
    if mode.is_decode_or_idle() and forward_batch.spec_info is not None and not serves_frozen_draft:
        return lens_B + backend.speculative_step_id + 1
    return lens_B


ATTENTION = Attention(
    name="fa",
    backend=_BACKEND,
    built=Point(f"{_BACKEND}.__init__", ("model_runner",)),
    calls=(keyword(Point(f"{_MODULE}.flash_attn_with_kvcache", ("q", "k_cache", "v_cache")), "page_table"),),
    forwards=(Point(f"{_BACKEND}.forward_decode", _FORWARD), Point(f"{_BACKEND}.forward_extend", _FORWARD)),
    handed=_handed,
    metadata_is_graph=_is_graph,
    swa_state=_swa_state,
    graph_tables=_graph_tables,
    keys_B=_keys_B,
)
