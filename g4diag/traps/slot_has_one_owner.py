"""A page that an allocator hands out belongs to nobody yet.

Two requests on one page overwrite each other's K/V: garbage output, no fault, nothing logged. It comes of a page
freed twice, of a free list that was put back too late, or of a kernel that reads the list past what was popped.
A page is handed out when its first slot is; later slots of a live page go to its owner, and a speculative step may
hand them out again. Live is by our own book, kept from what was handed out and given back, not the free list.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import Allocation, Violation
from g4diag.traps.contract import Trap
from g4diag.traps.slots import lacks_book, repeated, violation_in_call


def judge(allocation: Allocation) -> Iterator[Violation]:
    """One violation an allocation, at the first slot that has an owner: an earlier call's, or one in this call."""
    pool, slots_N = allocation.pool, allocation.slots_N
    if allocation.differ and allocation.live.isdisjoint(allocation.begun):
        return
    live_N = np.array(sorted(allocation.live), dtype=np.int64)
    twice_N = repeated(slots_N)
    taken_N = (slots_N % pool.page_size == 0) & np.isin(slots_N // pool.page_size, live_N)
    bad_N = twice_N | taken_N
    how = "twice in one call" if twice_N[np.flatnonzero(bad_N)[0]] else "while its page was live"
    summary = f"{allocation.call} handed out {pool.name} slot {{id}} {how}"
    yield violation_in_call(TRAP.name, pool, allocation.call, slots_N, bad_N, summary)


TRAP = Trap(
    name="slot_has_one_owner",
    claim="No allocator hands out a page that is live, or one slot twice in a call.",
    without_it="Two requests write K/V to one page: garbage answers, no fault, nothing in the log.",
    cost="One set of the returned slots on the host; live, one copy of them, judged when it has arrived.",
    runs=("eager", "offline"),
    judges=Allocation,
    judge=judge,
    group="allocator",
    needs=lacks_book,
)
