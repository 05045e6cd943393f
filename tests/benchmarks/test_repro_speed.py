"""The arithmetic of the repro benchmark: a ratio of medians to each kind of import, and a missed goal shows."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest


def test_a_ratio_to_each_import(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    speed = importlib.import_module("repro_speed")
    alone, at_once, begun = speed.IMPORTS
    costs = {
        alone: [speed.Cost(10.0, 10.0, 1.0)] * 3,
        at_once: [speed.Cost(8.0, 9.0, 1.0), speed.Cost(80.0, 8.0, 1.0), speed.Cost(8.0, 7.0, 1.0)],
        begun: [speed.Cost(5.0, 4.0, 1.0)] * 3,
        speed.REPRO: [speed.Cost(12.0, 14.0, 1.5), speed.Cost(90.0, 14.0, 2.5), speed.Cost(12.0, 1.0, 1.5)],
    }
    monkeypatch.setattr(speed, "alternate", lambda runs, interpreted: (7, costs))
    monkeypatch.setattr(sys, "argv", ["repro_speed.py"])
    assert speed.main() == 0
    told = [line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if "goal" in line]
    assert dict(told) == {
        f"wall ratio, import {alone}": "1.20, goal 1.50: met",
        f"processor-time ratio, import {alone}": "1.40, goal 1.50: met",
        f"wall ratio, import {at_once}": "1.50, goal 1.50: met",
        f"processor-time ratio, import {at_once}": "1.75, goal 1.50: missed",
        f"wall ratio, import {begun}": "2.40, goal 1.50: missed",
        f"processor-time ratio, import {begun}": "3.50, goal 1.50: missed",
        "peak GiB": "2.50, goal 2.00: missed",
    }


def test_one_that_leaves_at_once_is_not_taken_down(tmp_path: Path) -> None:
    speed = importlib.import_module("repro_speed")
    ends = "import atexit, pathlib, sys; atexit.register(pathlib.Path(sys.argv[1]).touch)"
    speed.measured(ends + speed.LEAVING, str(tmp_path / "leaving"))
    speed.measured(ends, str(tmp_path / "taken down"))
    assert [path.name for path in tmp_path.iterdir()] == ["taken down"]
    assert [program.endswith(speed.LEAVING) for program in speed.IMPORTS.values()] == [False, True, True]
