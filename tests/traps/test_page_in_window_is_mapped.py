"""Fires at the first entry in the window that is the dummy page, and leaves wrong translations to their own trap."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from g4diag.model import AttentionRead, IndexMapping
from g4diag.traps import page_table_in_layer_space
from g4diag.traps.page_in_window_is_mapped import TRAP
from tests import samples, strategies


def evicted(*columns: int, **changes: Any) -> AttentionRead:
    """The healthy read after the full pages of these columns lost their SWA page, translated as it should be."""
    slots = samples.mapping().full_to_swa_M.copy()
    for page in samples.full_pages()[list(columns)]:
        slots[page * samples.PAGE : (page + 1) * samples.PAGE] = 0
    mapping = IndexMapping(slots, samples.PAGE)
    table = mapping.swa_pages(samples.full_pages())[None].astype(np.int32)
    return samples.healthy_read(page_table_BP=table, mapping=mapping, **changes)


def test_an_eviction_inside_the_window_fires_and_says_where() -> None:
    read = evicted(samples.FIRST, samples.LAST)
    (violation,) = TRAP.judge(read)
    assert (violation.row, violation.column, violation.value, violation.expected) == (0, samples.FIRST, 0, 0)
    assert (violation.count, violation.checked, violation.rid) == (2, 3, "r7")
    assert not list(page_table_in_layer_space.TRAP.judge(read)), "the table is the right translation"


@pytest.mark.parametrize("column", [0, samples.FIRST - 1, samples.LAST + 1])
def test_what_lies_outside_the_window_may_be_evicted(column: int) -> None:
    assert not list(TRAP.judge(evicted(column)))


def test_an_entry_that_should_not_be_the_dummy_is_another_traps() -> None:
    read = samples.healthy_read()
    read.page_table_BP[0, samples.LAST] = 0
    assert not list(TRAP.judge(read)) and list(page_table_in_layer_space.TRAP.judge(read))


def test_without_the_full_table_or_the_mapping_nothing_can_be_said() -> None:
    assert not list(TRAP.judge(evicted(samples.LAST, full_page_table_BP=None)))
    assert not list(TRAP.judge(replace(evicted(samples.LAST), mapping=None)))


def test_a_warm_ups_row_has_no_full_pages_either() -> None:
    """Upstream runs eagerly over rows of req_to_token that are all 0 before it captures a graph."""
    nothing = np.zeros((1, samples.COLUMNS), dtype=np.int64)
    read = samples.healthy_read(full_page_table_BP=nothing, page_table_BP=nothing.astype(np.int32))
    assert not list(TRAP.judge(read))


def test_a_full_layer_has_no_window_to_lose() -> None:
    read = evicted(samples.LAST, pool=samples.full_pool(), window_left=-1)
    assert not list(TRAP.judge(read))


@given(strategies.reads())
def test_it_never_raises_and_points_at_a_live_dummy(read: AttentionRead) -> None:
    for violation in TRAP.judge(read):
        assert read.live_BP()[violation.row, violation.column] and violation.value == 0
