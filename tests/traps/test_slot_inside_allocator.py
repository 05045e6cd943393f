"""The dummy page and whatever lies past the last page are not an allocator's to hand out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from g4diag.model import Allocation, IndexSpace, PoolView
from g4diag.traps.slot_inside_allocator import TRAP
from tests import strategies

POOL = PoolView("swa", IndexSpace.SWA_PAGE, 64, 154)


def allocation(*slots: int, pool: PoolView = POOL) -> Allocation:
    return Allocation("alloc_extend", pool, np.array(slots, dtype=np.int64))


@pytest.mark.parametrize("slot", [64, 65, 153 * 64, 154 * 64 - 1])
def test_legal_slots_are_silent(slot: int) -> None:
    assert not list(TRAP.judge(allocation(slot)))


@pytest.mark.parametrize("slot", [-1, 0, 63, 154 * 64, 1 << 40])
def test_the_rest_fires_and_says_where(slot: int) -> None:
    (violation,) = TRAP.judge(allocation(64, 65, slot, slot))
    assert (violation.column, violation.value, violation.count, violation.checked) == (2, slot, 2, 4)
    assert (violation.low, violation.bound) == (64, 154 * 64)
    assert violation.value_space is violation.expected_space is IndexSpace.SWA_SLOT


def test_unpaged_pool_starts_at_one() -> None:
    pool = PoolView("full", IndexSpace.FULL_PAGE, 1, 101)
    assert not list(TRAP.judge(allocation(1, 100, pool=pool)))
    (violation,) = TRAP.judge(allocation(0, pool=pool))
    assert violation.value_space is IndexSpace.FULL_SLOT


def test_nothing_allocated_is_silent() -> None:
    assert not list(TRAP.judge(allocation()))


@given(strategies.allocations)
def test_it_fires_exactly_where_a_slot_is_illegal(found: Allocation) -> None:
    low, bound = found.pool.page_size, found.pool.page_size * found.pool.num_pages
    illegal = [int(slot) for slot in found.slots_N if not low <= slot < bound]
    assert [(v.value, v.count) for v in TRAP.judge(found)] == ([(illegal[0], len(illegal))] if illegal else [])
