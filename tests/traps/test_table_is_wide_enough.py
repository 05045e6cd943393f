"""A row a request, a column a page of keys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from g4diag.model import AttentionRead
from g4diag.traps.table_is_wide_enough import TRAP
from tests import samples, strategies

FULL = samples.COLUMNS * samples.PAGE


@pytest.mark.parametrize(
    "healthy",
    [
        samples.healthy_read(),
        samples.healthy_read(seq_lens_B=np.array([FULL], dtype=np.int32), batch_rows=1),
        samples.faulty_read(),
        samples.healthy_read(seq_lens_B=np.array([0], dtype=np.int32)),
    ],
    ids=["short", "to the last column", "wrong space, wide enough", "empty"],
)
def test_a_wide_table_is_silent(healthy: AttentionRead) -> None:
    assert not list(TRAP.judge(healthy))


def test_one_token_past_the_last_column_fires() -> None:
    (violation,) = TRAP.judge(samples.healthy_read(seq_lens_B=np.array([FULL + 1], dtype=np.int32)))
    assert violation.row == 0 and violation.rid == "r7" and violation.layer_id == 4
    assert f"{FULL + 1} tokens needs {samples.COLUMNS + 1} pages" in violation.summary


def test_a_missing_row_fires() -> None:
    (violation,) = TRAP.judge(samples.healthy_read(batch_rows=2))
    assert (violation.row, violation.rid) == (1, None) and "1 rows for 2 requests" in violation.summary


@given(strategies.reads())
def test_it_never_raises(read: AttentionRead) -> None:
    assert len(list(TRAP.judge(read))) <= 1
