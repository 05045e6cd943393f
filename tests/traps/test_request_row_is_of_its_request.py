"""Fires where the row that is read is not the one that its request had, or has been given to another since."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from g4diag.model import AttentionRead, RowOwners
from g4diag.traps.request_row_is_of_its_request import TRAP
from tests import samples, strategies


def read(**changes: Any) -> AttentionRead:
    """r7 had row 3, which was given once, when the batch was built; row 3 is read."""
    owners = {"rids": ("r7",), "rows_B": 3, "taken_B": 1, "now_rids": ("r7",), "now_taken_B": 1} | changes
    found = {name: value if isinstance(value, tuple) else np.array([value]) for name, value in owners.items()}
    return samples.healthy_read(row_owners=RowOwners(**found))


def test_its_own_row_is_silent() -> None:
    assert not list(TRAP.judge(read())) and not TRAP.needs(read())
    assert not list(TRAP.judge(samples.healthy_read())) and TRAP.needs(samples.healthy_read())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rows_B": 2, "now_rids": ("r9",)}, "request row 3 is read for it, which is r9's now; it had row 2 when"),
        ({"rows_B": 2, "now_rids": ("",)}, "request row 3 is read for it, which is nobody's now; it had row 2 when"),
        ({"now_rids": ("r9",), "now_taken_B": 2}, "which was given away since the batch was built and is r9's now"),
        ({"now_rids": ("r7",), "now_taken_B": 3}, "which was given away since the batch was built and is r7's now"),
        ({"now_rids": ("",)}, "which was given away since the batch was built and is nobody's now"),
        ({"now_rids": ("?",), "now_taken_B": 2}, "and is another's now"),
    ],
)
def test_anothers_row_fires(changes: dict[str, Any], says: str) -> None:
    (violation,) = TRAP.judge(read(**changes))
    assert says in violation.summary and "row 0 of the batch is r7's" in violation.summary
    assert (violation.row, violation.count, violation.checked) == (0, 1, int(changes.get("rows_B", 3) >= 0))


@pytest.mark.parametrize("unknown", [{"rows_B": -1}, {"taken_B": -1, "now_taken_B": 4}, {"now_taken_B": -1}])
def test_what_is_not_known_is_not_judged(unknown: dict[str, Any]) -> None:
    assert not list(TRAP.judge(read(**unknown)))


@given(strategies.reads())
def test_it_never_raises(found: AttentionRead) -> None:
    assert len(list(TRAP.judge(found))) <= 1
