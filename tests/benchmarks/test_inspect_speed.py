"""The arithmetic of the inspect benchmark: ratios are to the load of the same file, and a missed goal shows."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest
from rich.console import Console


def shown(found: Any, capsys: pytest.CaptureFixture[str]) -> str:
    speed = importlib.import_module("inspect_speed")
    Console(width=120).print(speed.table(found))
    return capsys.readouterr().out


def test_ratios_and_goals(capsys: pytest.CaptureFixture[str]) -> None:
    speed = importlib.import_module("inspect_speed")
    base, slow = speed.Cost(2.0, 2.0, 600.0), speed.Cost(3.2, 1.0, 300.0)
    text = shown([("load x", base, None), ("inspect x", slow, base), ("g4diag --help", slow, None)], capsys)
    _, load, inspect, start = text.splitlines()
    assert "met" not in load and "MISSED" not in load
    assert inspect.split()[-4:] == ["1.60", "0.50", "0.50", "MISSED"] and start.endswith("MISSED".ljust(6))


def test_medians_are_taken_apart() -> None:
    speed = importlib.import_module("inspect_speed")
    costs = [speed.Cost(1, 9, 5), speed.Cost(2, 8, 7), speed.Cost(9, 1, 6)]
    assert speed.median(costs) == speed.Cost(2, 8, 6)


def test_a_process_and_its_child_are_both_measured() -> None:
    speed = importlib.import_module("inspect_speed")
    inner = "x = bytearray(60 << 20); import time; time.sleep(0.3)"
    outer = f"import subprocess, sys; x = bytearray(50 << 20); subprocess.run([sys.executable, '-c', {inner!r}])"
    cost = speed.measured([sys.executable, "-c", outer], [0])
    assert 110 < cost.mib < 250 and cost.wall > 0.3
    with pytest.raises(speed.CannotRun, match="found 3"):
        speed.measured([sys.executable, "-c", "raise SystemExit(3)"], [0])
