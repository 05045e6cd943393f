"""sglang 0.5.22 and 0.5.23: pages come back in one place, `req.kv`, a write location that holds both slots.

A paged allocator's free list is one tensor and what is staged beside it; every page that comes back passes
`_release_page_ids`. Nothing backs an allocator up any more. A pool's write is handed a KVWriteLoc. The frozen-KV draft
has a worker of spec v2 alone, and its graph runner captures a shape. Source: the released wheel, and runs on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.stack.releases.contract import Point, Readers, Release

_SRT = "sglang.srt"
_SCHEDULER = f"{_SRT}.managers.scheduler.Scheduler"
_UTILS = f"{_SRT}.speculative.frozen_kv_mtp_utils"
_GRAPH_RUNNER = f"{_SRT}.speculative.frozen_kv_mtp_cuda_graph_runner.FrozenKVMTPCudaGraphRunner"
_EAGLE_RUNNER = f"{_SRT}.speculative.eagle_draft_cuda_graph_runner.EAGLEDraftCudaGraphRunner"
_EXTEND_RUNNER = f"{_SRT}.speculative.eagle_draft_extend_cuda_graph_runner.EAGLEDraftExtendCudaGraphRunner"
_LAYERS_RUNNER = (
    f"{_SRT}.speculative.multi_layer_eagle_draft_extend_cuda_graph_runner"
    ".MultiLayerEagleMultiStepDraftExtendCudaGraphRunner"
)
_RUNNER = f"{_SRT}.model_executor.runner.decode_cuda_graph_runner.DecodeCudaGraphRunner"
_PREFILL_RUNNER = f"{_SRT}.model_executor.runner.prefill_cuda_graph_runner.PrefillCudaGraphRunner"
_ALLOCATORS = f"{_SRT}.mem_cache.allocator"
_PAGED, _TOKEN = f"{_ALLOCATORS}.paged.PagedTokenToKVPoolAllocator", f"{_ALLOCATORS}.token.TokenToKVPoolAllocator"
_SWA = f"{_ALLOCATORS}.swa.SWATokenToKVPoolAllocator"
_UNIFIED_TREE = f"{_SRT}.mem_cache.unified_radix_cache.UnifiedRadixCache"
_HYBRID_POOL = f"{_SRT}.mem_cache.swa_memory_pool.SWAKVPool"
_PLAIN_POOL = f"{_SRT}.mem_cache.memory_pool.MHATokenToKVPool"
_MLA_POOL = f"{_SRT}.mem_cache.memory_pool.MLATokenToKVPool"
_ROWS = f"{_SRT}.mem_cache.memory_pool.ReqToTokenPool"
_BATCH = f"{_SRT}.model_executor.forward_batch_info.ForwardBatch"
_VIEW = ("forward_batch", "kv_context", "draft_attn_backend")
_WRITE = ("layer", "loc_info", "cache_k", "cache_v")
_MLA_WRITE = ("layer", "loc_info", "cache_k_nope", "cache_k_rope")


def _free_lists(allocator: Any) -> tuple[Any, ...]:
    if allocator.page_size == 1:
        return allocator.free_pages, allocator.release_pages
    return (allocator.free_pages, *allocator.staged_pages)


def _is_swa_pool(pool: Any) -> bool:
    from sglang.srt.mem_cache.base_swa_memory_pool import BaseSWAKVPool

    return isinstance(pool, BaseSWAKVPool) and hasattr(pool, "layers_mapping")


def _write_slots(loc: Any, rest: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, Any]:
    if hasattr(loc, "data_ptr"):  # a tensor still, from callers that write to a plain pool
        return loc, None
    return loc.loc, loc.swa_loc


def _matched(cache: Any, result: Any) -> Any:
    return cache.path_device_indices(result.last_device_node)[: result.device_prefix_len]


RELEASE = Release(
    name="0.5.23",
    versions=">=0.5.22,<0.5.24",
    known_by=(
        Anchor(_GRAPH_RUNNER, "def capture_one_shape("),
        Anchor(_PAGED, "def _release_page_ids("),
        Anchor(f"{_HYBRID_POOL}.set_kv_buffer", "unwrap_write_loc(loc_info)"),
        Anchor(f"{_SRT}.speculative.frozen_kv_mtp_worker_v2", "class FrozenKVMTPDraftWorker("),
        Anchor(f"{_SRT}.mem_cache.common", "def checkpoint_kv_cache("),
    ),
    points={
        "scheduler.run_event_loop": Point(f"{_SCHEDULER}.run_event_loop"),
        "scheduler.run_batch": Point(f"{_SCHEDULER}.run_batch", ("batch",)),
        "scheduler.process_batch_result": Point(f"{_SCHEDULER}.process_batch_result", ("batch", "result")),
        "scheduler.on_idle": Point(f"{_SCHEDULER}.on_idle"),
        "runner.forward": Point(f"{_SRT}.model_executor.model_runner.ModelRunner.forward", ("forward_batch",)),
        "backend.taken": Point(
            f"{_SRT}.layers.attention.attention_registry.attn_backend_wrapper", ("runner", "full_attn_backend")
        ),
        "view.frozen_kv_target_view": Point(f"{_UTILS}.frozen_kv_target_view", _VIEW),
        "view.target_kv_pool_view": Point(f"{_UTILS}.target_kv_pool_view", _VIEW),
        "graph_runner.built": Point(f"{_GRAPH_RUNNER}.__init__", ("frozen_kv_mtp_worker",)),
        "graph_runner.capture": Point(f"{_GRAPH_RUNNER}.capture_one_shape", ("size", "forward")),
        "replay.target": Point(f"{_RUNNER}.execute", ("forward_batch",)),
        "replay.frozen_draft": Point(f"{_GRAPH_RUNNER}.execute", ("forward_batch",)),
        "replay.eagle_draft": Point(f"{_EAGLE_RUNNER}.execute", ("forward_batch",)),
        "replay.eagle_extend": Point(f"{_EXTEND_RUNNER}.execute", ("forward_batch",)),
        "replay.layers_extend": Point(f"{_LAYERS_RUNNER}.prepare", ("forward_batch",)),
        "replay.prefill": Point(f"{_PREFILL_RUNNER}.execute", ("forward_batch",)),
        "draft.step_slots": Point(f"{_SRT}.speculative.eagle_utils.per_step_draft_out_cache_loc", ("out_cache_loc",)),
        "batch.built": Point(f"{_BATCH}.init_new", ("batch", "model_runner")),
        "rows.alloc": Point(f"{_ROWS}.alloc", ("reqs",)),
        "rows.free": Point(f"{_ROWS}.free", ("req",)),
        "rows.clear": Point(f"{_ROWS}.clear"),
        "pool.hybrid_write": Point(f"{_HYBRID_POOL}.set_kv_buffer", _WRITE),
        "pool.plain_write": Point(f"{_PLAIN_POOL}.set_kv_buffer", _WRITE),
        "pool.mla_write": Point(
            f"{_MLA_POOL}.set_mla_kv_buffer", ("layer", "loc_info", "cache_k_nope", "cache_k_rope")
        ),
        "pool.mla_write_joined": Point(f"{_MLA_POOL}.set_kv_buffer", _WRITE),
        "paged.alloc": Point(f"{_PAGED}.alloc", ("need_size",)),
        "paged.alloc_extend": Point(f"{_PAGED}.alloc_extend", ("prefix_lens", "prefix_lens_cpu", "seq_lens")),
        "paged.alloc_decode": Point(f"{_PAGED}.alloc_decode", ("seq_lens", "seq_lens_cpu", "last_loc")),
        "paged.release_page_ids": Point(f"{_PAGED}._release_page_ids", ("page_ids",)),
        "paged.clear": Point(f"{_PAGED}.clear"),
        "token.alloc": Point(f"{_TOKEN}.alloc", ("need_size",)),
        "token.free": Point(f"{_TOKEN}.free", ("free_index",)),
        "token.clear": Point(f"{_TOKEN}.clear"),
        "swa.built": Point(f"{_SWA}.__init__", ("size", "size_swa", "page_size")),
        "swa.alloc": Point(f"{_SWA}.alloc", ("need_size",)),
        "swa.alloc_extend": Point(f"{_SWA}.alloc_extend", ("prefix_lens", "prefix_lens_cpu", "seq_lens")),
        "swa.alloc_decode": Point(f"{_SWA}.alloc_decode", ("seq_lens", "seq_lens_cpu", "last_loc")),
        "swa.alloc_extend_swa_tail": Point(
            f"{_SWA}.alloc_extend_swa_tail",
            (
                *("prefix_lens", "prefix_lens_cpu", "seq_lens", "seq_lens_cpu", "last_loc", "extend_num_tokens"),
                "swa_tail_len",
            ),
        ),
        "swa.set_full_to_swa_mapping": Point(f"{_SWA}.set_full_to_swa_mapping", ("full_indices", "swa_indices")),
        "swa.clear_full_to_swa_mapping": Point(f"{_SWA}.clear_full_to_swa_mapping", ("full_indices",)),
        "swa.clear": Point(f"{_SWA}.clear"),
        "swa.free": Point(f"{_SWA}.free", ("free_index",)),
        "swa.free_swa": Point(f"{_SWA}.free_swa", ("free_index",)),
        "swa.free_segment": Point(f"{_SWA}.free_segment", ("free_index",)),
        "swa.free_swa_segment": Point(f"{_SWA}.free_swa_segment", ("free_index",)),
        "tree.unified_match": Point(f"{_UNIFIED_TREE}.match_prefix", ("params",)),
        "swa.free_group_begin": Point(f"{_SWA}.free_group_begin"),
        "swa.free_group_end": Point(f"{_SWA}.free_group_end"),
    },
    lacks={
        "allocator.backup_state": "nothing backs an allocator up since 0.5.17",
        "allocator.restore_state": "nothing backs an allocator up since 0.5.17",
        "swa.restore_state": "nothing backs an allocator up since 0.5.17",
        "paged.free": "pages come back through _release_page_ids",
    },
    read=Readers(
        request_row=attrgetter("kv.req_pool_idx"),
        free_lists=_free_lists,
        is_deferred=lambda allocator: allocator.free_group is not None,
        is_swa_pool=_is_swa_pool,
        layer_is_swa=lambda pool, layer_id: bool(pool.layers_mapping[layer_id][1]),
        write_slots=_write_slots,
        regroups=False,
        matched=_matched,
    ),
    drive="g4diag.stack.drive.at_0_5_23",
    renamed={
        "cuda_graph_bs": "cuda_graph_bs_decode",
        "disable_piecewise_cuda_graph": "disable_prefill_cuda_graph",
    },
)
