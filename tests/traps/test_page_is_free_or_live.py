"""Free or live, every page but the dummy."""

from __future__ import annotations

from hypothesis import given

from g4diag.model import FreeList, IndexSpace
from g4diag.traps.page_is_free_or_live import TRAP
from tests import strategies
from tests.traps.calls import PAGES, POOL, free_list, int64


def _all_but(*pages: int) -> list[int]:
    return [page for page in range(1, PAGES) if page not in pages]


def test_pages_that_are_free_or_live_are_silent_and_the_dummy_is_neither() -> None:
    assert not list(TRAP.judge(free_list(*_all_but(2, 5), live=(2, 5))))
    assert not list(TRAP.judge(FreeList(POOL, int64(1)))) and TRAP.needs(FreeList(POOL, int64(1))), "no free list"


def test_a_lost_page_is_named() -> None:
    (violation,) = TRAP.judge(free_list(*_all_but(2, 5, 6), live=(5,)))
    assert "swa page 2 is neither on the free list nor live" in violation.summary
    assert violation.value_space is IndexSpace.SWA_PAGE and violation.value == 2
    assert (violation.count, violation.checked, violation.bound) == (2, PAGES - 1, PAGES)


@given(strategies.free_lists)
def test_it_never_raises(found: FreeList) -> None:
    assert len(list(TRAP.judge(found))) <= 1
