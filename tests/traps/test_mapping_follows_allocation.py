"""Written for what was handed out, 0 for what was freed."""

from __future__ import annotations

import pytest
from hypothesis import given

from g4diag.model import MappingUpdate
from g4diag.traps.mapping_follows_allocation import TRAP
from tests import strategies
from tests.traps.calls import int64


def update(call: str, wanted: tuple[int, ...], mapped: tuple[int, ...]) -> MappingUpdate:
    return MappingUpdate(call, int64(*range(64, 64 + len(wanted))), int64(*wanted), int64(*mapped))


@pytest.mark.parametrize("slots", [(), (0, 0), (8, 9, 10)])
def test_a_mapping_that_follows_is_silent(slots: tuple[int, ...]) -> None:
    assert not list(TRAP.judge(update("alloc_extend", slots, slots)))


@pytest.mark.parametrize(
    ("faulty", "says"),
    [
        (update("alloc_decode", (8, 9), (8, 0)), "full slot 65 maps to nothing, not to SWA slot 9"),
        (update("alloc_extend", (8, 9), (8, 40)), "full slot 65 maps to SWA slot 40, not to SWA slot 9"),
        (update("free_swa", (0, 0), (0, 9)), "after free_swa full slot 65 maps to SWA slot 9, not to nothing"),
    ],
    ids=["not written", "written wrong", "not cleared"],
)
def test_one_that_does_not_fires(faulty: MappingUpdate, says: str) -> None:
    (violation,) = TRAP.judge(faulty)
    assert says in violation.summary and (violation.column, violation.count, violation.checked) == (1, 1, 2)
    assert violation.expected == int(faulty.swa_slots_N[1])


@given(strategies.mapping_updates)
def test_it_never_raises(found: MappingUpdate) -> None:
    assert len(list(TRAP.judge(found))) <= 1
