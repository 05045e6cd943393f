"""A page is begun once while it lives, and no slot comes twice in one call."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from g4diag.model import Allocation, IndexSpace
from g4diag.traps.slot_has_one_owner import TRAP
from tests import strategies
from tests.traps.calls import UNPAGED, allocation, slots


@pytest.mark.parametrize(
    "healthy",
    [
        allocation(*slots(3, 4)),
        allocation(14, 15, *slots(5), live=(3,)),
        allocation(),
        allocation(7, 8, pool=UNPAGED, live=()),
        replace(allocation(*slots(3)), live_pages_N=None),
    ],
    ids=["two pages", "goes on in a live page", "nothing", "unpaged", "no book"],
)
def test_new_pages_and_further_slots_of_live_ones_are_silent(healthy: Allocation) -> None:
    assert not list(TRAP.judge(healthy))


def test_a_page_begun_while_live_fires_and_is_named() -> None:
    (violation,) = TRAP.judge(allocation(*slots(3, 4), live=(4,)))
    assert (violation.column, violation.value, violation.count, violation.checked) == (4, 16, 1, 8)
    assert violation.value_space is IndexSpace.SWA_SLOT and "while its page was live" in violation.summary


def test_a_slot_handed_out_twice_in_one_call_fires() -> None:
    (violation,) = TRAP.judge(allocation(13, 14, 14, live=(3,)))
    assert (violation.column, violation.value) == (2, 14) and "twice in one call" in violation.summary


def test_unpaged_slots_are_pages() -> None:
    (violation,) = TRAP.judge(allocation(7, 8, pool=UNPAGED, live=(8,)))
    assert (violation.value, violation.value_space) == (8, IndexSpace.FULL_SLOT)


@given(strategies.allocations)
def test_it_never_raises(found: Allocation) -> None:
    assert len(list(TRAP.judge(found))) <= 1
