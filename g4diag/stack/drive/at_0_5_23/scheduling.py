"""0.5.23: what a scheduler does to batches and requests. See `at_0_5_13_scheduling` for what each is for.

What moved: frees resolve ownership at once, by whole pages, and a request's row is freed in segments; results of a
prefill are processed in a free group too; the prefix tree has two cores; who finishes with the result in flight sits
the next decode out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]  # a function and its arguments

ALLOCATION_KERNELS = "sglang.kernels.ops.memory.allocator"
ROW_KERNEL = "sglang.srt.mem_cache.allocation.assign_req_to_token_pool"
PREFILL_IN_FREE_GROUP = True
FREES_RESOLVE_AT_ONCE = True
UNMAPS_WHOLE_PAGES = True
EVICTION_INTERVAL = "SGLANG_SWA_EVICTION_INTERVAL"
LAYER_WINDOW_PAST_CACHE = 0


def launch_kernels(allocator: Any) -> None:
    """On the CPU this release goes its naive ways; a server on a GPU launches these."""
    for side in (allocator.full_attn_allocator, allocator.swa_attn_allocator):
        side.use_triton_kernels = True


@contextmanager
def launched_row_kernel() -> Iterator[None]:
    from sglang.srt.mem_cache import allocation

    was, allocation._is_cpu = allocation._is_cpu, False  # a CPU engine has a kernel of its own, in sgl_kernel
    try:
        yield
    finally:
        allocation._is_cpu = was


def tree_cores() -> tuple[str, ...]:
    return ("python", "rust")


def prefix_cache(*, shared: bool, core: str, **arguments: Any) -> Any:
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.mem_cache.unified_cache.components import ComponentType
    from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache

    components = (ComponentType.FULL, ComponentType.SWA)
    params = CacheInitParams(
        disable=not shared, tree_components=components, tree_core_backend=core or None, **arguments
    )
    return UnifiedRadixCache(params)


def checker(args: Any, shared: dict[str, Any], batches: dict[str, Any]) -> Any:
    from sglang.srt.disaggregation.utils import DisaggregationMode
    from sglang.srt.managers.scheduler_components.invariant_checker import SchedulerInvariantChecker
    from sglang.srt.managers.scheduler_components.pool_stats_observer import SchedulerPoolStatsObserver
    from sglang.srt.observability.scheduler_stage_metrics import SchedulerStageMetricsRecorder

    absent: dict[str, Any] = {"session_controller": None, "hisparse_coordinator": None, "enable_hisparse": False}
    return SchedulerInvariantChecker(
        disaggregation_mode=DisaggregationMode.NULL,
        page_size=args.page_size,
        pool_stats_observer=SchedulerPoolStatsObserver(**absent, **shared),
        scheduler_stage_metrics=SchedulerStageMetricsRecorder(enabled=False),
        **shared,
        **batches,
    )


def leave_out(batch: Any, reqs: Sequence[Any]) -> None:
    batch.filter_batch(reqs_to_exclude=list(reqs))


def settle(batch: Any) -> None:
    batch.filter_batch()


def finishing(batch: Any, queued: Sequence[Any]) -> list[Any]:
    return [req for req in batch.reqs if req in queued and req.next_output_finishes_by_length()]


def may_be_asked(adder: Any) -> bool:
    from sglang.srt.managers.schedule_policy import AddReqResult

    return bool(adder.budget_state() != AddReqResult.OTHER)


def rows_to_give(adder: Any, free: int) -> int:
    return free + sum(req.kv.holds_kv for req in adder.can_run_list)


def allocate_ahead(batch: Any) -> None:
    from sglang.srt.speculative.eagle_utils import eagle_prepare_for_decode

    with launched_row_kernel():
        eagle_prepare_for_decode(batch)


def commit_verified(req: Any, accepted: int) -> None:
    req.kv.kv_committed_len += accepted


def ways_to_free() -> tuple[str, ...]:
    return ("free", "row")


def free_row(way: str, allocator: Any, slots: Any, start: int, evicted: int) -> list[Call]:
    from sglang.srt.mem_cache.common import free_kv_row_segments

    if way == "row":
        return [(free_kv_row_segments, (allocator, [(slots, start)]), {"swa_evicted_seqlen": evicted})]
    if allocator.page_size > 1:
        return [(allocator.free, (slots,), {})]
    # With pages of one token nothing tells a slot without an SWA slot from others: its caller must.
    gone = max(0, min(evicted - start, len(slots)))
    return [(allocator.free_full, (slots[:gone],), {}), (allocator.free, (slots[gone:],), {})]


def free_window(way: str, allocator: Any, slots: Any, start: int) -> Call:
    if way == "row":
        return allocator.free_swa_segment, (slots,), {"start_pos": start}
    return allocator.free_swa, (slots,), {}
