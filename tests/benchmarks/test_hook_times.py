"""`hook_times.py`: each hook's own microseconds a step, told apart by what is armed."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from g4diag.hooks import dispatcher
from g4diag.hooks.install import Hook, install

pytest.importorskip("sglang")
TARGET = "g4diag_timed.Scheduler.run_batch"


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    module = importlib.import_module("hook_times")
    for name in ("compose", "Dispatcher"):
        monkeypatch.setattr(dispatcher, name, getattr(dispatcher, name))
    for name in ("add", "remove"):
        monkeypatch.setattr(dispatcher.Dispatcher, name, getattr(dispatcher.Dispatcher, name))
    monkeypatch.setenv("HOOKTIMES_FILE", str(tmp_path / "times.json"))
    monkeypatch.setattr(module, "EVERY", 10)
    target = ModuleType("g4diag_timed")
    scheduler = type("Scheduler", (), {"run_batch": lambda self, seconds: time.sleep(seconds)})
    scheduler.run_batch.__module__, scheduler.run_batch.__qualname__ = "g4diag_timed", "Scheduler.run_batch"
    scheduler.__module__, target.Scheduler = "g4diag_timed", scheduler  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "g4diag_timed", target)
    module.register()
    yield module


def around(original: Any, scheduler: Any, seconds: float) -> Any:
    time.sleep(0.002)
    return original(scheduler, seconds)


def before(scheduler: Any, seconds: float) -> None:
    time.sleep(0.001)


def test_a_hook_is_charged_for_itself_alone(timing: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for armed in ("nothing", "some", "more"):
        if armed == "some":
            (tmp_path / "times.on").touch()
        monkeypatch.setenv("G4DIAG_TRAPS", armed)
        hooks = [Hook(TARGET, "around", around)] + [Hook(TARGET, "before", before)] * (armed == "more")
        with install("test", hooks):
            for _ in range(13):
                sys.modules["g4diag_timed"].Scheduler().run_batch(0.05)
    rows = {
        (armed.partition(",")[0], hook): (calls, us) for armed, hook, calls, us in timing.read(tmp_path / "times.json")
    }
    mine, other = "around around g4diag_timed.Scheduler.run_batch", "before before g4diag_timed.Scheduler.run_batch"
    assert ("some", other) not in rows and {armed for armed, _ in rows} == {"some", "more"}
    for armed in ("some", "more"):
        calls, us = rows[armed, mine]
        # The last step may be half counted. Without the 50 ms of the function.
        assert calls == pytest.approx(1, abs=0.11) and 1800 < us < 40_000
    assert 900 < rows["more", other][1] < 40_000 and rows["more", "all"][1] > rows["more", mine][1]


def test_a_file_without_steps_is_refused(timing: Any, tmp_path: Path) -> None:
    (tmp_path / "times.json").write_text(json.dumps({"all": {"steps": 0, "hooks": {}}}))
    with pytest.raises(ValueError, match="no steps"):
        timing.read(tmp_path / "times.json")
