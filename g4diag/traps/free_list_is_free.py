"""An allocator's free list holds only pages that are its own, that nobody has, and each once.

What the other allocator traps see call by call, taken stock of: it also finds what bypasses the calls, such as a free
list assigned by hand or restored from a backup that is too old. Pages neither free nor live are a leak and no
corruption: `page_is_free_or_live` tells of those.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import FreeList, Violation
from g4diag.traps.contract import Trap
from g4diag.traps.slots import repeated, violation_in_call


def judge(stock: FreeList) -> Iterator[Violation]:
    """One violation a free list, at its first page that is out of bounds, live, or there before."""
    pool, free_N = stock.pool, stock.pool.free_pages_N
    if free_N is None or not len(free_N):
        return
    outside_N = (free_N < 1) | (free_N >= pool.num_pages)
    if not np.count_nonzero(outside_N):
        # The healthy case, told by a table and without a sort.
        times_M = np.bincount(free_N, minlength=pool.num_pages)
        known_N = stock.live_pages_N[stock.live_pages_N.astype(np.uint64) < pool.num_pages]
        if times_M.max() == 1 and not np.count_nonzero(times_M[known_N]):
            return
    live_N = np.isin(free_N, stock.live_pages_N)
    twice_N = repeated(free_N)
    for bad_N, how in ((outside_N, "not one of its own"), (live_N, "live"), (twice_N, "there twice")):
        if bad_N.any():
            summary = f"the {pool.name} free list holds page {{id}}, which is {how}"
            fields = {"low": 1, "bound": pool.num_pages, "space": pool.space}
            yield violation_in_call(TRAP.name, pool, "free list", free_N, bad_N, summary, **fields)
            return


def needs(stock: FreeList) -> str:
    """The list itself."""
    return "the free list" if stock.pool.free_pages_N is None else ""


TRAP = Trap(
    name="free_list_is_free",
    claim="A free list holds pages of its own pool that are not live, each once.",
    without_it="A page with an owner is handed out again: garbage answers, no fault, nothing in the log.",
    cost="A copy of the whole free list and one pass; live, taken once in many calls, judged when it has arrived.",
    runs=("eager", "offline"),
    judges=FreeList,
    judge=judge,
    group="allocator",
    needs=needs,
    counts="ids of this free list",
)
