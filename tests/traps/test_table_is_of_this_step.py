"""Lengths are the batch's own."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from g4diag.model import AttentionRead
from g4diag.traps.table_is_of_this_step import TRAP
from tests import samples, strategies


def test_this_steps_lengths_are_silent() -> None:
    assert not list(TRAP.judge(samples.healthy_read(batch_lens_B=np.array([samples.SEQ_LEN]))))
    assert not list(TRAP.judge(samples.healthy_read())), "nothing to compare with"


def test_a_stale_length_fires() -> None:
    (violation,) = TRAP.judge(samples.healthy_read(batch_lens_B=np.array([samples.SEQ_LEN + 1])))
    assert (violation.row, violation.rid, violation.path, violation.count) == (0, "r7", "eager", 1)
    assert violation.summary == f"row 0 is read with {samples.SEQ_LEN} keys, the batch has {samples.SEQ_LEN + 1}"


@given(strategies.reads())
def test_it_never_raises(read: AttentionRead) -> None:
    assert len(list(TRAP.judge(read))) <= 1
