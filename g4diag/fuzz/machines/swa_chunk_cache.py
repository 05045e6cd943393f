"""What sglang has in place of a prefix cache with --disable-radix-cache: no prefix is shared, and the window is evicted
in prefill too, behind each chunk. In 0.5.13 that is SWAChunkCache; in 0.5.23 a UnifiedRadixCache that is disabled."""

from __future__ import annotations

from typing import ClassVar

from g4diag.fuzz.cache_machine import GOALS, PAGE_SIZES, CacheMachine, books, release_goals, surroundings
from g4diag.fuzz.contract import Books, Machine, Sink
from g4diag.hooks.install import Hook


class SwaChunkCacheMachine(CacheMachine):
    """The chunk cache under a scheduler's calls."""

    shared: ClassVar[bool] = False


def _probes(sink: Sink, books: Books) -> list[Hook]:
    from g4diag.stack.probes.allocation import AllocationProbe

    return AllocationProbe(sink, stock_every=16).hooks()


MACHINE = Machine(
    name="swa-chunk-cache",
    subject="the cache of a server without a radix cache, with PrefillAdder, Req and ScheduleBatch",
    drives=SwaChunkCacheMachine,
    goals=GOALS,
    release_goals=release_goals,
    oracle=(
        *("slot_inside_allocator", "slot_has_one_owner", "page_is_handed_out_whole", "free_of_live_only"),
        *("free_list_is_free", "mapping_follows_allocation", "page_in_window_is_mapped"),
        *("mapping_is_what_was_handed_out", "request_row_is_of_its_request", "page_is_free_or_live"),
    ),
    probes=_probes,
    books=books,
    page_sizes=PAGE_SIZES,
    surroundings=surroundings,
)
