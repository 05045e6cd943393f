"""Every page of an allocator is on its free list or has an owner.

A page that is neither is lost for good: the pool shrinks, requests are retracted or wait for ever, and upstream's
memory check ends the server where it runs. It comes of a backup that is put back in part, so that what was handed out
meanwhile is forgotten, and of a free that takes only some of its pages. Live is by our own book, kept from what was
handed out and given back; `free_list_is_free` judges the same stock for pages that are both.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import FreeList, Violation
from g4diag.traps.contract import Trap
from g4diag.traps.free_list_is_free import needs
from g4diag.traps.slots import violation_in_call


def judge(stock: FreeList) -> Iterator[Violation]:
    """One violation a free list, at the first page that is lost."""
    pool = stock.pool
    if pool.free_pages_N is None:
        return
    there_M = np.zeros(pool.num_pages, dtype=np.bool_)
    for ids_N in (pool.free_pages_N, stock.live_pages_N):
        there_M[ids_N[ids_N.astype(np.uint64) < pool.num_pages]] = True
    if np.count_nonzero(there_M[1:]) == pool.num_pages - 1:
        return
    pages_N = np.arange(1, pool.num_pages)
    lost_N = ~np.isin(pages_N, pool.free_pages_N) & ~np.isin(pages_N, stock.live_pages_N)
    if lost_N.any():
        summary = f"{pool.name} page {{id}} is neither on the free list nor live"
        fields = {"low": 1, "bound": pool.num_pages, "space": pool.space}
        yield violation_in_call(TRAP.name, pool, "free list", pages_N, lost_N, summary, **fields)


TRAP = Trap(
    name="page_is_free_or_live",
    claim="Every page of an allocator is on its free list or has an owner.",
    without_it="Pages are lost for good: fewer requests fit, and the memory check ends the server.",
    cost="As `free_list_is_free`, whose copy of the free list it shares, and one more pass.",
    runs=("eager", "offline"),
    judges=FreeList,
    judge=judge,
    group="allocator",
    needs=needs,
    counts="pages of this pool",
)
