"""What 0.5.13's scheduler does to batches and requests, where later releases do it another way.

`stack/drive` asks `driver().SCHEDULING` for these by name. Arguments and results are sglang's own objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]  # a function and its arguments

ALLOCATION_KERNELS = "sglang.srt.mem_cache.triton_ops.allocator"
ROW_KERNEL = "sglang.srt.speculative.triton_ops.cache_locs.assign_req_to_token_pool"
# Whether a prefill's results are processed in a free group, as a decode's are.
PREFILL_IN_FREE_GROUP = False
# Whether a free in a free group takes effect on mapping and ownership at once, and only the pages come back later.
FREES_RESOLVE_AT_ONCE = False
# Whether freeing any slot of a page unmaps the whole page.
UNMAPS_WHOLE_PAGES = False
# The variable with the tokens that must have left the window before they are evicted; "" where there is none.
EVICTION_INTERVAL = ""
# Gemma-4: by how many keys the window that a sliding layer hands its kernel passes the one that the cache keeps.
LAYER_WINDOW_PAST_CACHE = 1


def launch_kernels(allocator: Any) -> None:
    """From here on the allocator's paged sides launch Triton's kernels, whatever the platform: they always do."""


@contextmanager
def launched_row_kernel() -> Iterator[None]:
    """For the body, rows of req_to_token are written by ROW_KERNEL, whatever the platform: they always are."""
    yield


def tree_cores() -> tuple[str, ...]:
    """Implementations of the prefix tree to choose from; none where there is one only."""
    return ()


def prefix_cache(*, shared: bool, core: str, **arguments: Any) -> Any:
    """The prefix cache of a hybrid SWA model. shared: prefixes are; else the server has --disable-radix-cache. core: of
    `tree_cores`, "" for the release's choice. arguments: CacheInitParams'."""
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.mem_cache.chunk_cache import SWAChunkCache
    from sglang.srt.mem_cache.swa_radix_cache import SWARadixCache

    cache = SWARadixCache if shared else SWAChunkCache
    return cache(CacheInitParams(disable=False, **arguments))


def checker(args: Any, shared: dict[str, Any], batches: dict[str, Any]) -> Any:
    """Upstream's check of the pools' sums. shared: what it and its observer of the pools are both given. batches:
    functions that get the running ones."""
    from sglang.srt.disaggregation.utils import DisaggregationMode
    from sglang.srt.managers.scheduler_components.invariant_checker import SchedulerInvariantChecker
    from sglang.srt.managers.scheduler_components.pool_stats_observer import SchedulerPoolStatsObserver

    absent: dict[str, Any] = {"session_controller": None, "hisparse_coordinator": None, "enable_hisparse": False}
    return SchedulerInvariantChecker(
        disaggregation_mode=DisaggregationMode.NULL,
        page_size=args.page_size,
        server_args=args,
        pool_stats_observer=SchedulerPoolStatsObserver(**absent, **shared, **batches),
        **shared,
        **batches,
    )


def leave_out(batch: Any, reqs: Sequence[Any]) -> None:
    """Take the finished out of a batch, and these."""
    batch.filter_batch(chunked_req_to_exclude=list(reqs))


def settle(batch: Any) -> None:
    """What is done to the running batch at each iteration once the last prefill has joined it."""


def finishing(batch: Any, queued: Sequence[Any]) -> list[Any]:
    """Of the running batch, those that a result not processed yet finishes for certain: they sit this decode out.
    queued: the requests of that result."""
    return []


def may_be_asked(adder: Any) -> bool:
    """Whether a PrefillAdder has any budget left to offer."""
    return True


def rows_to_give(adder: Any, free: int) -> int:
    """Request rows that a prefill may take, of so many that are free."""
    return free


def allocate_ahead(batch: Any) -> None:
    """Slots for the drafts of a running batch, which do not count yet."""
    from sglang.srt.speculative.eagle_info import EagleDraftInput

    EagleDraftInput().prepare_for_decode(batch)


def commit_verified(req: Any, accepted: int) -> None:
    """A verify's result: K/V of `accepted` more tokens counts; 0 for a request that has finished.
    prepare_for_decode had counted the first of them."""
    req.kv_committed_len += accepted - 1


def ways_to_free() -> tuple[str, ...]:
    """How a request's slots may be freed, by name."""
    return ("free",)


def free_row(way: str, allocator: Any, slots: Any, start: int, evicted: int) -> list[Call]:
    """What frees a request's int64 slots from position `start` on. evicted: its leading tokens whose SWA slots are
    gone."""
    return [(allocator.free, (slots,), {})]


def free_window(way: str, allocator: Any, slots: Any, start: int) -> Call:
    """What frees the SWA slots of a request's int64 full slots from position `start` on."""
    return allocator.free_swa, (slots,), {}
