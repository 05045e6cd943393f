"""From its first slot on, or further slots of a live page; `alloc` hands out all of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from g4diag.model import Allocation
from g4diag.traps.page_is_handed_out_whole import TRAP
from tests import strategies
from tests.traps.calls import UNPAGED, allocation, slots


@pytest.mark.parametrize(
    "healthy",
    [
        allocation(*slots(3), call="alloc"),
        allocation(*slots(3), 16, 17),
        allocation(14, 15, 20, live=(3,), call="alloc_decode"),
        allocation(5, 9, call="alloc", pool=UNPAGED),
        allocation(),
        replace(allocation(13), live_pages_N=None),
    ],
    ids=["whole", "last page begun", "goes on", "unpaged", "nothing", "no book"],
)
def test_whole_pages_are_silent(healthy: Allocation) -> None:
    assert not list(TRAP.judge(healthy))


@pytest.mark.parametrize("call", ["alloc_extend", "alloc_decode"])
def test_the_middle_of_a_page_that_nobody_has_fires(call: str) -> None:
    (violation,) = TRAP.judge(allocation(*slots(3), 17, 18, call=call, live=(5,)))
    assert (violation.column, violation.value, violation.count) == (4, 17, 2) and "nobody had" in violation.summary


def test_alloc_of_a_part_fires() -> None:
    (violation,) = TRAP.judge(allocation(*slots(3), 16, 17, call="alloc"))
    assert violation.value == 16 and "without the rest" in violation.summary


@given(strategies.allocations)
def test_it_never_raises(found: Allocation) -> None:
    assert len(list(TRAP.judge(found))) <= 1
