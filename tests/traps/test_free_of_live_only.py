"""A second free, a free of the dummy page, and a free of what was never handed out."""

from __future__ import annotations

import pytest
from hypothesis import given

from g4diag.model import Release
from g4diag.traps.free_of_live_only import TRAP
from tests import strategies
from tests.traps.calls import UNPAGED, release, slots


@pytest.mark.parametrize(
    "healthy",
    [
        release(*slots(3, 4), live=(3, 4)),
        release(12, 12, live=(3,)),
        release(live=()),
        release(7, live=(7,), pool=UNPAGED),
    ],
    ids=["two pages", "doubles fold in a page", "nothing", "unpaged"],
)
def test_what_is_live_may_be_freed(healthy: Release) -> None:
    assert not list(TRAP.judge(healthy))


@pytest.mark.parametrize("slot", [0, 3, 16, 1 << 40, -1])
def test_the_rest_fires_and_is_named(slot: int) -> None:
    (violation,) = TRAP.judge(release(12, 13, slot, live=(3,)))
    assert (violation.column, violation.value, violation.phase, violation.count) == (2, slot, "free", 1)


def test_an_unpaged_allocator_folds_no_doubles() -> None:
    (violation,) = TRAP.judge(release(7, 8, 7, live=(7, 8), pool=UNPAGED))
    assert violation.column == 2 and "twice in one call" in violation.summary


@given(strategies.releases)
def test_it_never_raises(found: Release) -> None:
    assert len(list(TRAP.judge(found))) <= 1
