"""Its own, not live, each once."""

from __future__ import annotations

import pytest
from hypothesis import given

from g4diag.model import FreeList, IndexSpace
from g4diag.traps.free_list_is_free import TRAP
from tests import strategies
from tests.traps.calls import PAGES, POOL, free_list, int64


@pytest.mark.parametrize("healthy", [free_list(1, 9, live=(2, 3)), free_list(live=(1,)), FreeList(POOL, int64(1))])
def test_free_pages_are_silent(healthy: FreeList) -> None:
    assert not list(TRAP.judge(healthy))


@pytest.mark.parametrize(
    ("faulty", "says"),
    [
        (free_list(1, 2, live=(2,)), "is live"),
        (free_list(1, 3, 1, live=(2,)), "there twice"),
        (free_list(1, 0), "not one of its own"),
        (free_list(1, PAGES), "not one of its own"),
    ],
    ids=["live", "twice", "the dummy", "past the pool"],
)
def test_the_rest_fires_and_is_named(faulty: FreeList, says: str) -> None:
    (violation,) = TRAP.judge(faulty)
    assert says in violation.summary and violation.value_space is IndexSpace.SWA_PAGE
    assert (violation.low, violation.bound, violation.count) == (1, PAGES, 1)


@given(strategies.free_lists)
def test_it_never_raises(found: FreeList) -> None:
    assert len(list(TRAP.judge(found))) <= 1
