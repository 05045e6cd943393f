"""FlashAttention 3 and 4: FlashAttentionBackend.

No method of it hands a layer its table: each forward picks one and calls the kernel with it, so the kernel's call is
where it is seen. Metadata holds a table in full pages and, where the backend takes its pool for an SWA pool, one in SWA
pages. That is a boolean, asked of the runner's own pool in the constructor: what the views of a frozen-KV draft leave
behind (alive in 0.5.23 on fa4).

A draft tree (topk above 1) has more tables. Its prefix's is that of the requests. What it drafted has a row for each
branch; sliding layers of a verify have one table of both, in slots. By the mask of a verify we tell what belongs in
these on the host; on the device, and while the draft makes its tree, they are judged by the bound alone.
Not judged: tables of local attention and of an encoder.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from g4diag.model import IndexSpace
from g4diag.stack.backends.contract import Attention, Handed, keyword, rows_differ, shortest_query
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
    if _is(table, metadata.swa_page_table):
        space = IndexSpace.SWA_PAGE
    elif _is(table, metadata.page_table):
        space = IndexSpace.FULL_PAGE
    else:
        return _handed_branches(backend, forward_batch, table)
    return Handed(
        table_BP=table,
        lengths_B=metadata.cache_seqlens_int32,
        rows_B=forward_batch.req_pool_indices,
        space=space,
        is_copy=False,
        is_graph=_is_graph(backend),
        # A prefill's graph was captured with a row as long as it has room for, and with empty ones.
        queries=1 if _is_prefill_graph(backend) else shortest_query(forward_batch, int(metadata.max_seq_len_q)),
    )


def _handed_branches(backend: Any, forward_batch: Any, table: Any) -> Handed | None:
    """A table with a row for each branch of a draft tree: of what it drafted, or of the prefix and that."""
    drafted, joined = backend.forward_metadata_spec_decode_expand, backend.forward_metadata.swa_spec_metadata
    is_joined = joined is not None and _is(table, joined.page_table)
    if not is_joined and (drafted is None or not _is(table, drafted.page_table)):
        return None
    rows_B, by_slot = forward_batch.req_pool_indices, forward_batch.forward_mode.is_target_verify()
    return Handed(
        table_BP=table,
        lengths_B=(joined if is_joined else drafted).cache_seqlens_int32,
        rows_B=rows_B.repeat_interleave(len(table) // len(rows_B)),
        space=None if is_joined else IndexSpace.FULL_SLOT if by_slot else IndexSpace.FULL_PAGE,
        is_copy=False,
        is_graph=_is_graph(backend),
        queries=1,
        by_slot=by_slot,
        is_bound_only=True,
        told_BP=lambda: verified_slots(backend, forward_batch, table.shape[1], prefix=is_joined),
    )


def verified_slots(backend: Any, forward_batch: Any, columns: int, *, prefix: bool) -> Any:
    """int64 host array [B * drafted, columns]: the full slots that each token of a verified tree sees, by the tree's
    mask: those drafted, after those of the prefix if that is asked for. None where the batch has no such mask."""
    mask = getattr(forward_batch.spec_info, "custom_mask", None)
    if mask is None or not forward_batch.forward_mode.is_target_verify():
        return None
    drafted, lens_B = int(backend.speculative_num_draft_tokens), forward_batch.seq_lens.tolist()
    sizes_B = [drafted * (keys + drafted) for keys in lens_B]
    if mask.numel() < sum(sizes_B):
        return None
    parts = mask[: sum(sizes_B)].cpu().split(sizes_B)
    slots_BT = backend.req_to_token_pool.req_to_token[forward_batch.req_pool_indices].cpu().numpy()
    told = np.zeros((drafted * len(lens_B), columns), dtype=np.int64)
    for row, (keys, part) in enumerate(zip(lens_B, parts, strict=True)):
        tree = part.view(drafted, keys + drafted)[:, keys:].bool().numpy()
        for token, seen in enumerate(tree):
            new = slots_BT[row, keys : keys + drafted][seen]
            slots = np.concatenate([slots_BT[row, :keys], new]) if prefix else new
            told[row * drafted + token, : len(slots)] = slots[:columns]
    return told


def _is(table: Any, known: Any) -> bool:
    return known is not None and bool(table.data_ptr() == known.data_ptr())


def _is_prefix(backend: Any, forward_batch: Any) -> bool:
    """Whether its tables hold what a draft tree stands on, and not the tree."""
    if backend.topk <= 1 or forward_batch.spec_info is None:
        return False
    mode = forward_batch.forward_mode
    return bool(mode.is_target_verify() or (mode.is_decode_or_idle() and backend.speculative_num_steps > 0))


def _is_graph(backend: Any) -> bool:
    tables = (getattr(backend, name, {}) for name in _GRAPH_METADATA)
    if any(backend.forward_metadata is known for table in tables for known in table.values()):
        return True
    return _is_prefill_graph(backend)


def _is_prefill_graph(backend: Any) -> bool:
    """Whether it is a whole prefill's, of which a backend has one for all sizes."""
    known = getattr(backend, "full_cg_prefill_metadata", None)
    return known is not None and backend.forward_metadata is known


def _swa_state(backend: Any) -> Any:
    """The pool that it reads, where it takes that for an SWA pool."""
    return backend.token_to_kv_pool if backend.use_sliding_window_kv_pool else None


def _graph_tables(backend: Any) -> bool | None:
    buffers = backend.decode_cuda_graph_metadata
    return buffers.get("swa_page_table") is not None if "page_table" in buffers else None


def _keys_B(backend: Any, forward_batch: Any, serves_frozen_draft: bool) -> Any:
    """The batch's lengths, and what the forward's kind adds to them. A frozen-KV draft's metadata counts no new key."""
    lens_B = forward_batch.seq_lens
    mode = forward_batch.forward_mode
    if rows_differ(forward_batch.spec_info):
        return None
    if _is_prefix(backend, forward_batch):  # a drafting tree's own table begins with the prefix's last page
        return lens_B if mode.is_target_verify() else lens_B - lens_B % backend.page_size
    if mode.is_target_verify():
        return lens_B + int(backend.forward_metadata.max_seq_len_q)
    if mode.is_decode_or_idle() and forward_batch.spec_info is not None and not serves_frozen_draft:
        return lens_B + backend.speculative_step_id + 1
    return lens_B


ATTENTION = Attention(
    name="fa",
    flags=("fa3", "fa4"),
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
