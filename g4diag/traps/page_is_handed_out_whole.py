"""Pages are handed out whole: from their first slot on, or further slots of a page that is live.

Everything above an allocator divides by the page size: a page table keeps one id for page_size tokens, eviction and
free round to pages. Slots that begin in the middle of a page nobody has would be read as a page with another's
K/V before them, and freeing them frees the whole. `alloc` returns whole pages only.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import Allocation, Violation
from g4diag.model.allocator_calls import FEW
from g4diag.traps.contract import Trap
from g4diag.traps.slots import lacks_book, violation_in_call


def judge(allocation: Allocation) -> Iterator[Violation]:
    """One violation an allocation, at the first slot of a page that is neither begun here nor live."""
    pool, slots_N = allocation.pool, allocation.slots_N
    if allocation.live_pages_N is None:
        return
    if _are_whole(allocation) if allocation.call == "alloc" else _all_go_on(allocation):
        return
    pages_N = slots_N // pool.page_size
    bad_N = ~np.isin(pages_N, allocation.begun) & ~np.isin(pages_N, allocation.live_pages_N)
    if allocation.call == "alloc":
        _, which_N, slots_of = np.unique(pages_N, return_inverse=True, return_counts=True)
        bad_N |= slots_of[which_N] != pool.page_size
    if bad_N.any():
        how = "without the rest of its page" if allocation.call == "alloc" else "inside a page that nobody had"
        summary = f"{allocation.call} handed out {pool.name} slot {{id}} {how}"
        yield violation_in_call(TRAP.name, pool, allocation.call, slots_N, bad_N, summary)


def _are_whole(allocation: Allocation) -> bool:
    """Whether the slots are those of pages begun here, each from its first slot to its last and each once, page after
    page: the healthy case of `alloc`, told without a sort."""
    page, slots_N, begun = allocation.pool.page_size, allocation.slots_N, allocation.begun
    if page == 1:
        return allocation.differ
    if len(begun) * page != len(slots_N) or len(set(begun)) != len(begun):
        return False
    wanted_PT = np.array(begun, dtype=np.int64)[:, None] * page + np.arange(page)
    return not np.count_nonzero(slots_N != wanted_PT.reshape(-1))


def _all_go_on(allocation: Allocation) -> bool:
    """Whether each slot begins a page, follows the one before it, or lies in a page that is live or begun here: the
    healthy case of the others, told without a sort."""
    page, slots_N = allocation.pool.page_size, allocation.slots_N
    if len(slots_N) <= FEW:
        pairs = zip(allocation.slots, [*allocation.slots[:1], *allocation.slots], strict=False)
        loose = {slot // page for slot, last in pairs if slot % page and slot != last + 1}
    else:
        loose_N = slots_N % page != 0
        loose_N[1:] &= slots_N[1:] != slots_N[:-1] + 1
        loose = set((slots_N[loose_N] // page).tolist())
    return loose <= allocation.live or loose <= allocation.live.union(allocation.begun)


TRAP = Trap(
    name="page_is_handed_out_whole",
    claim="An allocator hands out a page from its first slot on, and `alloc` hands out all of it.",
    without_it="A page table rounds to a page that begins with another request's K/V, and a free takes that too.",
    cost="One pass over the returned slots on the host; live, one copy of them, judged when it has arrived.",
    runs=("eager", "offline"),
    judges=Allocation,
    judge=judge,
    group="allocator",
    needs=lacks_book,
)
