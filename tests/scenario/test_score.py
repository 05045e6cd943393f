"""What a run on the CPU scores, from readings made up for it."""

from __future__ import annotations

from typing import Any

import pytest

from g4diag.scenario import Outcome, Reading, Score

READ = "page_table_stays_in_pool"


def reading(
    state: str, expected: str, *, outcome: str = "", traps: tuple[str, ...] = (), twin: bool = False
) -> Reading:
    """One row; as expected unless `outcome` says otherwise."""
    sizes: dict[str, Any] = dict.fromkeys(
        ("swa_use", "checked", "divergent", "out_of_range", "wrong_in_range", "largest", "bound", "relative_error"), 1
    )
    return Reading(
        state=state,
        path="eager",
        **sizes,
        agreement=None,
        rows_faulted=0,
        traps=traps,
        outcome=outcome or expected,
        expected=expected,
        twin=twin,
    )


def score(*readings: Reading) -> Score:
    return Outcome("made", 0, {}, {}, (), readings).score


@pytest.mark.parametrize(
    ("readings", "wanted"),
    [
        ([reading("faulty", "faults", traps=(READ,)), reading("upstream", "equal")], ((1, 1), (1, 1), (1, 1), (0, 0))),
        ([reading("faulty", "faults")], ((1, 1), (0, 1), (0, 0), (0, 0))),
        ([reading("faulty", "faults", outcome="equal")], ((0, 1), (0, 1), (0, 0), (0, 0))),
        ([reading("upstream", "raises IndexError")], ((1, 1), (0, 0), (0, 0), (0, 0))),
        ([reading("upstream", "equal", traps=(READ,))], ((0, 0), (0, 0), (0, 1), (0, 0))),
        ([reading("twin", "equal", twin=True)], ((0, 0), (0, 0), (0, 0), (1, 1))),
        # Sound on one path, and armed before either: not a sound state.
        (
            [reading("views", "equal", traps=(READ,)), reading("views", "faults", traps=(READ,))],
            ((1, 1), (1, 1), (0, 0), (0, 0)),
        ),
    ],
)
def test_each_kind_is_counted_by_itself(readings: list[Reading], wanted: tuple[tuple[int, int], ...]) -> None:
    assert score(*readings) == Score(*wanted)
