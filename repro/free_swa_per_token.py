"""A fourth bug, alive in 0.5.13: `free_swa` forgets a slot and frees its page, so a page can be freed twice.

PR: sglang #27779 (2026-06-10, merged). With pages larger than 1 the allocator frees SWA K/V by the page, whichever of
its slots it is given; the mapping is cleared for the given slots only. The others of the page still map to what they
had: a later free of one of them puts the page back again, under whoever has it by then. Issue #27789, a pool whose sums
are over by one page under speculation, is of the same day. Whoever frees whole pages, as window eviction and the radix
cache do, is safe.

Free one slot of a page and then the rest of it, both times slots that are handed out: as released, with a stand-in for
the cure, which clears whole pages, and as callers that keep to whole pages do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.scenario import Drive, Found, Where
from g4diag.scenario.driving import driven

_FREE = "sglang.srt.mem_cache.allocator.swa.SWATokenToKVPoolAllocator.free_swa"
_PER_SLOT = ((_FREE, "self.full_to_swa_index_mapping[free_index] = 0"),)


def drive(*, first: int) -> Found:
    """first: slots of the two pages that the first free is given. Damaged: pages that are on the free list twice."""
    from g4diag.stack.drive.allocators import PAGE, extend, freed_twice, small_allocator

    allocator = small_allocator()
    slots = extend(allocator, 2 * PAGE)
    allocator.free_swa(slots[:first])
    mapped = int((allocator.full_to_swa_index_mapping[slots] > 0).sum())
    allocator.free_swa(slots[first:])
    return Found(
        checked=len(slots),
        damaged=freed_twice(allocator.swa_attn_allocator),
        evidence={"slot mapped between the two frees": mapped},
        says=f"{mapped} of {len(slots)} slots still mapped after a free of {first}",
    )


def clearing_whole_pages(original: Callable[..., None], allocator: Any, free_index: Any) -> None:
    """Around `free_swa`: no slot of a page that it freed stays mapped."""
    original(allocator, free_index)
    pages_MP = allocator.full_to_swa_index_mapping[:-1].view(-1, allocator.page_size)
    pages_MP[free_index // allocator.page_size] = 0


SCENARIO = driven(
    drive,
    without_model=True,
    name="free-swa-per-token",
    symptom="assert available_size() <= size in the SWA allocator, or two requests with one page, under speculation",
    upstream="sglang #27779 (merged 2026-06-10), not in 0.5.13; see #27789",
    drives=(
        Drive("upstream", "as released", arguments={"first": 1}, where=(Where(_PER_SLOT, "free_of_live_only"),)),
        Drive(
            "cure",
            "whole pages unmapped",
            hooks=lambda: (Hook(_FREE, "around", clearing_whole_pages),),
            arguments={"first": 1},
            lines=_PER_SLOT,
        ),
        Drive("whole-pages", "as released, frees of whole pages", twin=True, arguments={"first": 16}),
    ),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
