"""Every slot an allocator hands out is one it owns.

A paged pool of `size` tokens has pages 1 .. size/page_size, page 0 being the dummy for padded tokens, so legal
slots are page_size .. size+page_size-1; unpaged 1 .. size. The allocator trap of the fork pyc96/sglang
compared with `size` and so fired on the last page of a healthy pool; re-judging such a dump here clears it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import Allocation, Severity, Violation
from g4diag.model.allocator_calls import FEW
from g4diag.traps.contract import Trap


def judge(allocation: Allocation) -> Iterator[Violation]:
    """One violation an allocation, at the first slot out of bounds."""
    pool, slots_N = allocation.pool, allocation.slots_N
    low, bound = pool.page_size, pool.num_pages * pool.page_size
    if len(slots_N) <= FEW:
        if not len(slots_N) or (low <= min(allocation.slots) and max(allocation.slots) < bound):
            return
    elif low <= slots_N.min() and slots_N.max() < bound:
        return
    bad = np.flatnonzero((slots_N < low) | (slots_N >= bound))
    if not len(bad):
        return
    value = int(slots_N[bad[0]])
    space = pool.slot_space
    yield Violation(
        trap=TRAP.name,
        severity=Severity.ERROR,
        summary=f"{allocation.call} returned slot {value}; legal slots are {low} .. {bound - 1}",
        phase=allocation.call,
        column=int(bad[0]),
        value=value,
        low=low,
        bound=bound,
        value_space=space,
        expected_space=space,
        count=len(bad),
        checked=len(slots_N),
    )


TRAP = Trap(
    name="slot_inside_allocator",
    claim="Every slot an allocator returns lies in page_size .. size+page_size-1 of its own pool.",
    without_it="KV is written past the pool or into the dummy page, and surfaces as another request's garbage.",
    cost="One min/max over the returned slots; live, one copy of them to the host, judged when it has arrived.",
    runs=("eager", "offline"),
    judges=Allocation,
    judge=judge,
    group="allocator",
)
