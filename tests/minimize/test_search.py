"""The search on made-up answers: where it ends, that it ends, and that it needs few questions."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g4diag.minimize.search import Point, shrink

AXES = ("a", "b", "c")
POINTS = st.fixed_dictionaries({name: st.integers(1, 200) for name in AXES})


@given(start=POINTS, floor=POINTS)
def test_of_what_holds_above_a_floor_the_floor_is_found(start: Point, floor: Point) -> None:
    start = {name: max(start[name], floor[name]) for name in AXES}
    asked: list[Point] = []

    def ask(point: Point) -> bool:
        asked.append(point)
        return all(point[name] >= floor[name] for name in AXES)

    assert shrink(start, ask, together=(AXES,), axes=AXES) == floor
    assert len(asked) < 50


@given(start=POINTS, seed=st.integers(0, 2**20))
def test_no_single_axis_can_go_down_by_one_whatever_the_answers(start: Point, seed: int) -> None:
    def ask(point: Point) -> bool:
        return hash((seed, *point.values())) % 3 == 0

    told = [start]
    best = shrink(start, ask, together=(AXES, ("a",)), axes=AXES, found=told.append)
    assert best == told[-1]
    assert all(best[name] == 1 or not ask(best | {name: best[name] - 1}) for name in AXES)
    assert all(sum(after.values()) < sum(before.values()) for before, after in pairwise(told))


def test_what_the_question_raises_ends_it_after_the_best_was_told() -> None:
    told: list[Point] = []

    def ask(point: Point) -> bool:
        if told:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        shrink({"a": 9}, ask, axes=("a",), together=(("a",),), found=told.append)
    assert told == [{"a": 4}]
