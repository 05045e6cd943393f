"""Rows of a query lie as far apart as they are long, or there is one row only."""

from __future__ import annotations

import pytest
from hypothesis import given

from g4diag.model import QueryRows
from g4diag.traps.query_rows_are_packed import TRAP
from tests import strategies


def query(rows: int, stride: int) -> QueryRows:
    """Of the H100's pair: 8 heads of 256."""
    return QueryRows("draft", "draft_decode", "graph", "TRTLLMHAAttnBackend", 4, rows, 2048, stride)


@pytest.mark.parametrize(("rows", "stride"), [(8, 2048), (1, 3072), (0, 3072)], ids=["packed", "one row", "none"])
def test_what_is_read_where_it_is_is_silent(rows: int, stride: int) -> None:
    assert not list(TRAP.judge(query(rows, stride)))


@pytest.mark.parametrize("stride", [3072, 0], ids=["a slice of qkv", "one row expanded"])
def test_every_row_but_the_first_is_wrong(stride: int) -> None:
    (violation,) = TRAP.judge(query(8, stride))
    assert (violation.layer_id, violation.row, violation.count, violation.checked) == (4, 1, 7, 8)
    assert (violation.worker, violation.phase, violation.path) == ("draft", "draft_decode", "graph")
    said = f"layer 4 of the draft gives its kernel 8 query rows of 2048 elements that lie {stride} apart"
    assert said in violation.summary and "7 of them, from row 1 on" in violation.summary


@given(strategies.query_rows)
def test_it_never_raises(rows: QueryRows) -> None:
    assert len(list(TRAP.judge(rows))) <= 1
