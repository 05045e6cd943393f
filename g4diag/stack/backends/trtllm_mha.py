"""TensorRT-LLM's MHA kernels through FlashInfer: TRTLLMHAAttnBackend, on Hopper its XQA kernels for decode.

`_get_layer_page_table` is called by decode and extend alike and knows layer, pool and metadata. The metadata holds one
table in full pages and, where the backend knows of an SWA pool, one in SWA pages; which of the two a layer was handed
is told by the tensor's address. `_swa_kv_pool` is resolved once, in the constructor: the state that the frozen-KV SWA
bug (#26957) leaves wrong. XQA takes the query's address and no strides (#31641). Prefill on SM90 and SM120 goes on from
the table to blocks: see `fmha_v2`.
"""

from __future__ import annotations

from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.model import IndexSpace
from g4diag.stack.backends import fmha_v2
from g4diag.stack.backends.contract import Attention, Handed, Kernel, Write, rows_differ, shortest_query
from g4diag.stack.releases.contract import Point

_MODULE = "sglang.srt.layers.attention.trtllm_mha_backend"
_BACKEND = f"{_MODULE}.TRTLLMHAAttnBackend"
_FORWARD = ("q", "k", "v", "layer", "forward_batch")
_GRAPH_METADATA = ("decode_cuda_graph_metadata", "target_verify_metadata", "draft_extend_metadata")


def _handed(backend: Any, layer: Any, forward_batch: Any, table: Any) -> Handed | None:
    metadata, rows_B, a_request = backend.forward_metadata, forward_batch.req_pool_indices, 1
    if isinstance(table, fmha_v2.Blocks):
        table = fmha_v2.pages(table, metadata, _own_table(backend, layer))
        if table is None:  # the backend's own, which was seen when it was handed out
            return None
        space, is_copy, a_request = None, False, len(table) // len(rows_B)
    else:
        space, is_copy = _space_of(table, metadata)
    lengths_B = metadata.cache_seqlens_int32
    if a_request > 1:
        lengths_B, rows_B = lengths_B.repeat_interleave(a_request), rows_B.repeat_interleave(a_request)
    return Handed(
        table_BP=table,
        lengths_B=lengths_B,
        rows_B=rows_B,
        space=space,
        is_copy=is_copy,
        is_graph=_is_graph(backend),
        queries=shortest_query(forward_batch, int(metadata.max_seq_len_q)),
    )


def _own_table(backend: Any, layer: Any) -> Any:
    """What `_get_layer_page_table` takes for this layer."""
    metadata = backend.forward_metadata
    if metadata.swa_page_table is not None and backend._swa_kv_pool.layers_mapping[layer.layer_id][1]:
        return metadata.swa_page_table
    return metadata.page_table


def _space_of(table: Any, metadata: Any) -> tuple[IndexSpace | None, bool]:
    if metadata.swa_page_table is not None and table.data_ptr() == metadata.swa_page_table.data_ptr():
        return IndexSpace.SWA_PAGE, False
    if table.data_ptr() == metadata.page_table.data_ptr():
        return IndexSpace.FULL_PAGE, False
    # A copy: of the only table there is, or of one of two.
    return (IndexSpace.FULL_PAGE if metadata.swa_page_table is None else None), True


def _is_graph(backend: Any) -> bool:
    metadata = backend.forward_metadata
    for name in _GRAPH_METADATA:
        for known in getattr(backend, name, {}).values():
            if known is metadata:
                return True
    return False


def _keys_B(backend: Any, forward_batch: Any, serves_frozen_draft: bool) -> Any:
    """The batch's lengths, and what the forward's kind adds to them. A frozen-KV draft's metadata counts no new key."""
    lens_B = forward_batch.seq_lens
    mode = forward_batch.forward_mode
    if rows_differ(forward_batch.spec_info):
        return None
    if mode.is_target_verify():
        return lens_B + int(backend.forward_metadata.max_seq_len_q)
    if mode.is_decode_or_idle() and forward_batch.spec_info is not None and not serves_frozen_draft:
        return lens_B + backend.speculative_step_id + 1
    return lens_B


def _graph_tables(backend: Any) -> bool | None:
    buffers = backend.decode_cuda_graph_metadata
    # The child of a wrapper may take no part in graphs, and has none.
    return buffers.get("swa_page_table") is not None if "page_table" in buffers else None


def _query(*args: Any, **kwargs: Any) -> Any:
    return kwargs["query"] if "query" in kwargs else args[0]


def _fused_qkv(package: str) -> Write:
    """Imported where it is called, from a package that moved."""
    module = f"{package}.fused_fp8_qkv_kv_cache"
    return Write(
        Point(f"{module}.fused_fp8_qkv_kv_cache", ("q", "k", "v", "k_cache", "v_cache", "cache_loc")),
        Anchor(_BACKEND, f"from {module} import"),
        lambda *args, cache_loc=None, **kwargs: args[5] if cache_loc is None else cache_loc,
    )


ATTENTION = Attention(
    name="trtllm_mha",
    backend=_BACKEND,
    built=Point(f"{_BACKEND}.__init__", ("model_runner",)),
    table=Point(f"{_BACKEND}._get_layer_page_table", ("layer", "forward_batch")),
    forwards=(Point(f"{_BACKEND}.forward_decode", _FORWARD), Point(f"{_BACKEND}.forward_extend", _FORWARD)),
    calls=(fmha_v2.call(_BACKEND),),
    handed=_handed,
    metadata_is_graph=_is_graph,
    swa_state=lambda backend: backend._swa_kv_pool,
    graph_tables=_graph_tables,
    keys_B=_keys_B,
    writes=(
        Write(
            Point(f"{_MODULE}.fused_fp8_set_kv_buffer", ("k", "v", "k_cache", "v_cache", "cache_loc")),
            Anchor(_BACKEND, "fused_fp8_set_kv_buffer("),
            lambda *args, cache_loc=None, **kwargs: args[4] if cache_loc is None else cache_loc,
        ),
        *(_fused_qkv(module) for module in ("sglang.jit_kernel", "sglang.kernels.ops.kvcache")),
    ),
    kernels=(
        Kernel(
            Point("flashinfer.decode.trtllm_batch_decode_with_kv_cache", ("query",)),
            _query,
            applies=lambda backend: bool(backend.is_xqa_impl),
        ),
    ),
)
