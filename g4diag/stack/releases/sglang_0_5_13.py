"""sglang 0.5.13 and 0.5.13.post1: the release on which the frozen-KV SWA bug was first driven (#27491 is its cure).

Page ids lie in `free_pages` and `release_pages` of each sub-allocator, which speculation may back up and put back; a
request keeps its row itself; a pool's write is handed the slots as tensors, `swa_loc` beside `loc`; the frozen-KV graph
runner captures one batch size at a time. Source: the released wheel, and runs on a CPU and an H100.
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
_ALLOCATORS = f"{_SRT}.mem_cache.allocator"
_PAGED, _TOKEN = f"{_ALLOCATORS}.paged.PagedTokenToKVPoolAllocator", f"{_ALLOCATORS}.token.TokenToKVPoolAllocator"
_BASE, _SWA = f"{_ALLOCATORS}.base.BaseTokenToKVPoolAllocator", f"{_ALLOCATORS}.swa.SWATokenToKVPoolAllocator"
_UNIFIED_TREE = f"{_SRT}.mem_cache.unified_radix_cache.UnifiedRadixCache"
_HYBRID_POOL = f"{_SRT}.mem_cache.swa_memory_pool.SWAKVPool"
_PLAIN_POOL = f"{_SRT}.mem_cache.memory_pool.MHATokenToKVPool"
_MLA_POOL = f"{_SRT}.mem_cache.memory_pool.MLATokenToKVPool"
_ROWS = f"{_SRT}.mem_cache.memory_pool.ReqToTokenPool"
_BATCH = f"{_SRT}.model_executor.forward_batch_info.ForwardBatch"
_VIEW = ("forward_batch", "kv_context", "draft_attn_backend")
_AFTER_LOC = 4  # positions of a pool's write between `loc` and `swa_loc`: K, V and their scales


def _write_slots(loc: Any, rest: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, Any]:
    return loc, named.get("swa_loc", rest[_AFTER_LOC] if len(rest) > _AFTER_LOC else None)


def _is_swa_pool(pool: Any) -> bool:
    from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

    return isinstance(pool, SWAKVPool)


RELEASE = Release(
    name="0.5.13",
    versions=">=0.5.13,<0.5.14",
    known_by=(
        Anchor(_GRAPH_RUNNER, "def capture_one_batch_size("),
        Anchor(_BASE, "def backup_state("),
        Anchor(f"{_HYBRID_POOL}.set_kv_buffer", "swa_loc: Optional[torch.Tensor] = None"),
        Anchor(f"{_SRT}.speculative.frozen_kv_mtp_worker", "class FrozenKVMTPWorker("),
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
        "graph_runner.capture": Point(f"{_GRAPH_RUNNER}.capture_one_batch_size", ("num_seqs", "forward")),
        "replay.target": Point(f"{_SRT}.model_executor.cuda_graph_runner.CudaGraphRunner.replay", ("forward_batch",)),
        "replay.frozen_draft": Point(f"{_GRAPH_RUNNER}.replay", ("forward_batch",)),
        "replay.eagle_draft": Point(f"{_EAGLE_RUNNER}.replay", ("forward_batch",)),
        "replay.eagle_extend": Point(f"{_EXTEND_RUNNER}.replay", ("forward_batch",)),
        "draft.step_slots": Point(f"{_SRT}.speculative.eagle_utils.per_step_draft_out_cache_loc", ("out_cache_loc",)),
        "batch.built": Point(f"{_BATCH}.init_new", ("batch", "model_runner")),
        "rows.alloc": Point(f"{_ROWS}.alloc", ("reqs",)),
        "rows.free": Point(f"{_ROWS}.free", ("req",)),
        "rows.clear": Point(f"{_ROWS}.clear"),
        "pool.hybrid_write": Point(f"{_HYBRID_POOL}.set_kv_buffer", ("layer", "loc", "cache_k", "cache_v")),
        "pool.plain_write": Point(f"{_PLAIN_POOL}.set_kv_buffer", ("layer", "loc", "cache_k", "cache_v")),
        "pool.mla_write": Point(f"{_MLA_POOL}.set_mla_kv_buffer", ("layer", "loc", "cache_k_nope", "cache_k_rope")),
        "pool.mla_write_joined": Point(f"{_MLA_POOL}.set_kv_buffer", ("layer", "loc", "cache_k", "cache_v")),
        "paged.alloc": Point(f"{_PAGED}.alloc", ("need_size",)),
        "paged.alloc_extend": Point(f"{_PAGED}.alloc_extend", ("prefix_lens", "prefix_lens_cpu", "seq_lens")),
        "paged.alloc_decode": Point(f"{_PAGED}.alloc_decode", ("seq_lens", "seq_lens_cpu", "last_loc")),
        "paged.free": Point(f"{_PAGED}.free", ("free_index",)),
        "paged.clear": Point(f"{_PAGED}.clear"),
        "token.alloc": Point(f"{_TOKEN}.alloc", ("need_size",)),
        "token.free": Point(f"{_TOKEN}.free", ("free_index",)),
        "token.clear": Point(f"{_TOKEN}.clear"),
        "allocator.backup_state": Point(f"{_BASE}.backup_state"),
        "allocator.restore_state": Point(f"{_BASE}.restore_state", ("state",)),
        "swa.restore_state": Point(f"{_SWA}.restore_state", ("state",)),
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
        "swa.clear": Point(f"{_SWA}.clear"),
        "swa.free": Point(f"{_SWA}.free", ("free_index",)),
        "swa.free_swa": Point(f"{_SWA}.free_swa", ("free_index",)),
        "tree.match": Point(f"{_SRT}.mem_cache.swa_radix_cache.SWARadixCache.match_prefix", ("params",)),
        "tree.unified_match": Point(f"{_UNIFIED_TREE}.match_prefix", ("params",)),
        "swa.free_group_begin": Point(f"{_BASE}.free_group_begin"),
        "swa.free_group_end": Point(f"{_BASE}.free_group_end"),
    },
    lacks={
        "replay.prefill": "a prefill's graphs are pieces, between which attention runs eagerly",
        "replay.layers_extend": "each step's graph makes lengths and slots of the next one, which no batch has",
    },
    read=Readers(
        request_row=attrgetter("req_pool_idx"),
        free_lists=lambda allocator: (allocator.free_pages, allocator.release_pages),
        is_deferred=lambda allocator: not allocator.is_not_in_free_group,
        is_swa_pool=_is_swa_pool,
        layer_is_swa=lambda pool, layer_id: bool(pool.layers_mapping[layer_id][1]),
        write_slots=_write_slots,
    ),
    drive="g4diag.stack.drive.at_0_5_13",
)
