"""Fires at the first live entry past the pool, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from g4diag.model import AttentionRead
from g4diag.traps.page_table_stays_in_pool import TRAP
from tests import samples, strategies


def table(*entries: tuple[int, int, int], rows: int = 1) -> AttentionRead:
    """A healthy read of `rows` equal rows with (row, column, value) written over it."""
    healthy = samples.healthy_read()
    page_table = np.repeat(healthy.page_table_BP, rows, axis=0)
    for row, column, value in entries:
        page_table[row, column] = value
    lengths = np.full(rows, samples.SEQ_LEN, dtype=np.int32)
    return samples.healthy_read(page_table_BP=page_table, seq_lens_B=lengths, full_page_table_BP=None, req_rows_B=None)


def test_frozen_kv_swa_bug_fires_and_says_where() -> None:
    (violation,) = TRAP.judge(samples.faulty_read())
    assert (violation.row, violation.column, violation.value) == (0, samples.FIRST, 188)
    assert (violation.bound, violation.count, violation.checked) == (154, 3, 3)
    assert (violation.rid, violation.step, violation.layer_id, violation.expected) == ("r7", 12, 4, 100)


@pytest.mark.parametrize("value", [154, 155, 2**31 - 1, -1, -(2**31)])
def test_second_row_fires(value: int) -> None:
    (violation,) = TRAP.judge(table((1, samples.LAST, value), rows=3))
    assert (violation.row, violation.column, violation.value, violation.count) == (1, samples.LAST, value, 1)
    assert violation.rid is None, "the second row has no request name here"


@pytest.mark.parametrize("value", [0, 1, 153])
def test_every_page_of_the_pool_is_accepted(value: int) -> None:
    assert not list(TRAP.judge(table((0, samples.LAST, value))))


@pytest.mark.parametrize("column", [0, samples.FIRST - 1, samples.LAST + 1])
def test_stale_entries_are_ignored(column: int) -> None:
    assert not list(TRAP.judge(table((0, column, 99999))))


@pytest.mark.parametrize("column", [samples.FIRST, samples.LAST])
def test_edges_of_the_window_are_judged(column: int) -> None:
    assert list(TRAP.judge(table((0, column, 99999))))


def test_without_a_window_the_first_page_counts() -> None:
    read = samples.healthy_read(window_left=-1, full_page_table_BP=None)
    read.page_table_BP[0, 0] = 154
    assert [v.column for v in TRAP.judge(read)] == [0]


def test_padded_rows_are_ignored() -> None:
    bad = table((0, 0, 99999), (1, 5, 99999), rows=2)
    lengths = np.array([0, samples.SEQ_LEN], dtype=np.int32)
    assert not list(TRAP.judge(samples.healthy_read(page_table_BP=bad.page_table_BP, seq_lens_B=lengths)))


def test_more_queries_see_further_left() -> None:
    """GIVEN a key that only the oldest of 65 queries sees WHEN its page is bad THEN it fires."""
    page_table = table((0, samples.FIRST - 1, 99999)).page_table_BP
    one, many = (samples.healthy_read(page_table_BP=page_table, q_len=q) for q in (1, 65))
    assert not list(TRAP.judge(one)) and list(TRAP.judge(many))


@given(strategies.reads())
def test_it_never_raises_and_points_at_a_live_entry(read: AttentionRead) -> None:
    for violation in TRAP.judge(read):
        assert read.live_BP()[violation.row, violation.column]
        assert not 0 <= read.page_table_BP[violation.row, violation.column] < read.pool.num_pages
