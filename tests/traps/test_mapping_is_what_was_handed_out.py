"""Fires at the first entry of the window whose page was handed out to another, and names both owners."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from g4diag.model import AttentionRead, IndexMapping, RowOwners
from g4diag.traps import page_in_window_is_mapped, page_table_in_layer_space
from g4diag.traps.mapping_is_what_was_handed_out import TRAP
from tests import samples, strategies

RIGHT = samples.mapping().swa_pages(samples.full_pages())[None]


def moved(column: int, swa_page: int, **changes: Any) -> AttentionRead:
    """The healthy read after the full page of this column was mapped elsewhere, translated as the mapping has it."""
    slots = samples.mapping().full_to_swa_M.copy()
    start = int(samples.full_pages()[column]) * samples.PAGE
    slots[start : start + samples.PAGE] = swa_page * samples.PAGE
    mapping = IndexMapping(slots, samples.PAGE)
    table = mapping.swa_pages(samples.full_pages())[None].astype(np.int32)
    return samples.healthy_read(page_table_BP=table, mapping=mapping, **{"handed_out_BP": RIGHT} | changes)


def test_what_was_handed_out_is_silent() -> None:
    assert not list(TRAP.judge(samples.healthy_read(handed_out_BP=RIGHT)))
    assert TRAP.needs(samples.healthy_read()) == "the pages that were handed out"


def test_a_mapping_written_over_fires_where_the_other_table_traps_agree() -> None:
    owner = np.zeros_like(RIGHT)
    owner[0, samples.LAST] = 128 + samples.FIRST
    read = moved(samples.LAST, int(RIGHT[0, samples.FIRST]), owner_BP=owner)
    (violation,) = TRAP.judge(read)
    assert not [*page_table_in_layer_space.TRAP.judge(read), *page_in_window_is_mapped.TRAP.judge(read)]
    assert (violation.row, violation.column, violation.rid) == (0, samples.LAST, "r7")
    assert (violation.count, violation.checked) == (1, samples.LAST - samples.FIRST + 1)
    full, page, own = 128 + samples.LAST, int(RIGHT[0, samples.FIRST]), int(RIGHT[0, samples.LAST])
    assert f"reads full page {full} of r7, which maps to SWA page {page}, that was handed out" in violation.summary
    assert f"with full page {128 + samples.FIRST} of r7; SWA page {own} was handed out with it" in violation.summary


@pytest.mark.parametrize(
    ("owner", "says"),
    [
        (None, "that was not handed out with it"),
        (0, "that nobody's full page was handed out with"),
        (7, "that was handed out with full page 7, of no request in this batch"),
    ],
)
def test_it_says_as_much_of_the_other_owner_as_is_known(owner: int | None, says: str) -> None:
    owner_BP = None if owner is None else np.full_like(RIGHT, owner)
    (violation,) = TRAP.judge(moved(samples.LAST, 151, owner_BP=owner_BP))
    assert says in violation.summary


def test_a_page_that_was_freed_and_is_mapped_still_fires() -> None:
    freed = RIGHT.copy()
    freed[0, samples.LAST] = 0
    (violation,) = TRAP.judge(samples.healthy_read(handed_out_BP=freed))
    assert violation.summary.endswith("no SWA page of now was handed out with it")


@pytest.mark.parametrize("column", [0, samples.FIRST - 1, samples.LAST + 1])
def test_what_lies_outside_the_window_is_nobodys_concern(column: int) -> None:
    assert not list(TRAP.judge(moved(column, 151)))


def test_a_page_that_is_not_mapped_at_all_is_another_traps() -> None:
    read = moved(samples.LAST, 0)
    assert not list(TRAP.judge(read)) and list(page_in_window_is_mapped.TRAP.judge(read))


def test_the_request_is_named_as_well_as_is_known() -> None:
    number = np.array([3])
    owners = RowOwners(("chat-1",), number, number, ("chat-1",), number)
    (violation,) = TRAP.judge(moved(samples.LAST, 151, row_owners=owners))
    assert " of chat-1, which maps" in violation.summary


@given(strategies.reads())
def test_it_never_raises_and_points_at_a_live_entry(read: AttentionRead) -> None:
    for violation in TRAP.judge(read):
        assert read.live_BP()[violation.row, violation.column] and not TRAP.needs(read)
