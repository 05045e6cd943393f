"""Traps are found by the class of the view they judge, in their order, a class of views that nobody judges too."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.model import AttentionRead, PoolSwap
from g4diag.stack.live.by_view import ByView
from g4diag.stack.live.selection import traps
from g4diag.stack.live.sink import Live
from tests import samples


def test_every_trap_is_found_by_its_views_and_by_no_others() -> None:
    every = tuple(traps().values())
    read = samples.healthy_read()
    found = ByView(every)
    for _ in range(2):
        assert found.of(read) == tuple(trap for trap in every if trap.judges is AttentionRead) != ()
    assert found.of(object()) == ()
    assert {trap.judges for trap in every} > {AttentionRead, PoolSwap}


def test_a_view_of_a_class_below_is_judged_as_its_own() -> None:
    class Below(AttentionRead):
        pass

    read = samples.healthy_read()
    below = Below(**{field.name: getattr(read, field.name) for field in fields(AttentionRead)})
    every = tuple(traps().values())
    assert ByView(every).of(below) == ByView(every).of(read)


def test_a_trap_that_is_not_kept_judges_no_more(tmp_path: Path) -> None:
    chosen = [trap for trap in traps().values() if trap.judges is AttentionRead]
    live = Live(chosen, tmp_path)
    live.sink(samples.healthy_read())
    before = len(live.tally._seen)
    live.keep_only([chosen[0].name], [])
    live.sink(samples.healthy_read())
    assert before == len(chosen) and sorted(live.tally._seen.values()) == [1] * (before - 1) + [2]
