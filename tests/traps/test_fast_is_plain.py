"""The allocator's traps tell the healthy case in a short way. They fire where their claim fires that is spelt out in
plain Python, and nowhere else; on few ids and on many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g4diag.model import Allocation, FreeList, IndexSpace, PoolView, Release
from g4diag.model.allocator_calls import FEW
from g4diag.traps import (
    free_list_is_free,
    free_of_live_only,
    page_is_free_or_live,
    page_is_handed_out_whole,
    slot_has_one_owner,
    slot_inside_allocator,
)
from tests.traps.calls import int64

_PAGES = 40


@st.composite
def _ids(draw: st.DrawFn, page: int) -> list[int]:
    """Runs of slots as allocators hand them out: of whole pages or of parts, some out of bounds, some twice."""
    found: list[int] = []
    for _ in range(draw(st.integers(0, 6))):
        first = draw(st.one_of(st.integers(1, _PAGES - 1).map(lambda n: n * page), st.integers(-2, _PAGES * page + 2)))
        found += range(first, first + draw(st.one_of(st.just(page), st.integers(1, 5 * page))))
    return found


@st.composite
def _views(draw: st.DrawFn) -> tuple[Allocation, Release, FreeList]:
    page = draw(st.sampled_from([1, 4, 16]))
    pool = PoolView("full", IndexSpace.FULL_PAGE, page, _PAGES)
    slots, call = draw(_ids(page)), draw(st.sampled_from(["alloc", "alloc_extend", "alloc_decode"]))
    live = draw(st.sets(st.integers(1, _PAGES - 1), max_size=_PAGES))
    touched = {slot // page for slot in slots}
    if draw(st.booleans()):  # healthy for the one or for the other, as far as that goes
        live = draw(st.sampled_from([live - touched, live | touched]))
    free = [n for n in range(1, _PAGES) if n not in live]
    free = [*free[draw(st.integers(0, 1)) :], *draw(st.lists(st.integers(-1, _PAGES), max_size=1))]
    before, free_N = int64(*sorted(live & touched)), int64(*free)
    taken = Allocation(call, pool, int64(*slots), before)
    stock = FreeList(PoolView("full", IndexSpace.FULL_PAGE, page, _PAGES, free_N), int64(*sorted(live)))
    return taken, Release(pool, int64(*slots), before), stock


def _inside(view: Allocation) -> bool:
    return all(view.pool.page_size <= slot < _PAGES * view.pool.page_size for slot in view.slots_N.tolist())


def _one_owner(view: Allocation) -> bool:
    page, slots = view.pool.page_size, view.slots_N.tolist()
    begun = [slot // page for slot in slots if slot % page == 0]
    return len(set(slots)) == len(slots) and not set(begun) & set(view.live_pages_N.tolist())


def _whole(view: Allocation) -> bool:
    page, slots = view.pool.page_size, view.slots_N.tolist()
    has = {slot // page for slot in slots if slot % page == 0} | set(view.live_pages_N.tolist())
    parts = view.call == "alloc" and any(count != page for count in Counter(slot // page for slot in slots).values())
    return not parts and all(slot // page in has for slot in slots)


def _live_only(view: Release) -> bool:
    page, slots = view.pool.page_size, view.slots_N.tolist()
    return {slot // page for slot in slots} <= set(view.live_pages_N.tolist()) and (
        page > 1 or len(set(slots)) == len(slots)
    )


def _free(view: FreeList) -> bool:
    free = view.pool.free_pages_N.tolist()
    ours = all(0 < page < _PAGES for page in free)
    return ours and len(set(free)) == len(free) and not set(free) & set(view.live_pages_N.tolist())


def _kept(view: FreeList) -> bool:
    return set(range(1, _PAGES)) <= {*view.pool.free_pages_N.tolist(), *view.live_pages_N.tolist()}


_CLAIMS: list[tuple[Any, int, Callable[[Any], bool]]] = [
    (slot_inside_allocator, 0, _inside),
    (slot_has_one_owner, 0, _one_owner),
    (page_is_handed_out_whole, 0, _whole),
    (free_of_live_only, 1, _live_only),
    (free_list_is_free, 2, _free),
    (page_is_free_or_live, 2, _kept),
]


@pytest.mark.parametrize(("trap", "which", "holds"), _CLAIMS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_trap_fires_where_its_claim_in_plain_words_does(trap: Any, which: int, holds: Callable[[Any], bool]) -> None:
    seen: Counter[tuple[bool, bool]] = Counter()

    @settings(max_examples=400, derandomize=True, database=None, deadline=None)
    @given(_views())
    def agree(views: tuple[Any, ...]) -> None:
        view, broken = views[which], not holds(views[which])
        assert bool(list(trap.TRAP.judge(view))) == broken
        many = which < 2 and len(view.slots_N) > FEW
        seen[broken, many] += 1

    agree()
    kinds = 2 if which == 2 else 4  # broken and not; of calls on few slots and on many
    assert len(seen) == kinds and min(seen.values()) >= 5, seen


def test_an_id_far_below_zero_is_outside() -> None:
    far = np.array([np.iinfo(np.int64).min], dtype=np.int64)
    assert list(
        slot_inside_allocator.TRAP.judge(Allocation("alloc", PoolView("full", IndexSpace.FULL_PAGE, 4, 9), far))
    )
