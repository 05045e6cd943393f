"""A trap that fails or is slow is disarmed with one line, and the log does not fill."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from g4diag import guard
from g4diag.model import AttentionRead, Violation
from g4diag.stack.live import strikes
from g4diag.stack.live.sink import Live
from g4diag.traps.contract import Trap
from g4diag.traps.page_table_stays_in_pool import TRAP
from tests import samples


@pytest.fixture
def in_production(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(guard, "_told", guard.Counter())
    was = guard.set_raising(False)
    yield
    guard.set_raising(was)


def trap(judge: Any) -> Trap:
    return Trap(**{**{name: getattr(TRAP, name) for name in TRAP.__dataclass_fields__}, "judge": judge})


def reads(live: Live, count: int = 2000) -> None:
    view = samples.healthy_read()
    for _ in range(count):
        live.sink(view)


@pytest.mark.usefixtures("in_production")
def test_a_failing_trap_is_disarmed_with_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def judge(view: AttentionRead) -> Iterator[Violation]:
        calls.append(view)
        raise KeyError("odd")
        yield

    reads(Live([trap(judge)], tmp_path))
    assert len(calls) == strikes.MOST
    assert sum(record.exc_info is not None for record in caplog.records) == strikes.MOST
    (line,) = [record.getMessage() for record in caplog.records if "disarmed" in record.getMessage()]
    assert line == f"g4diag: {TRAP.name} disarmed in this process, the server goes on: it failed 3 times"


@pytest.mark.usefixtures("in_production")
def test_a_slow_trap_is_disarmed_with_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]

    def judge(view: AttentionRead) -> Iterator[Violation]:
        now[0] += 0.7
        yield from ()

    live = Live([trap(judge)], tmp_path)
    live._strikes = strikes.Strikes(lambda: now[0])
    reads(live)
    assert round(now[0], 1) == 2.1 and len(caplog.records) == 1
    assert "disarmed" in caplog.text and "it took more than 0.5 s 3 times" in caplog.text


@pytest.mark.usefixtures("in_production")
def test_a_sound_trap_stays_armed(tmp_path: Path) -> None:
    calls = []
    reads(Live([trap(lambda view: iter(calls.append(view) or ()))], tmp_path))
    assert len(calls) == 2000


@pytest.mark.usefixtures("in_production")
def test_any_failure_of_ours_is_logged_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(500):
        with guard.guard("testing"):
            raise ValueError("x")
    assert len(caplog.records) == guard.MOST_TRACEBACKS and "more of this kind are not logged" in caplog.text
    assert all(record.levelno == logging.ERROR for record in caplog.records)


def test_two_processes_of_one_pid_write_two_dumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in two containers that share a folder, where both are process 1."""
    monkeypatch.setattr("os.getpid", lambda: 1)
    for _ in range(2):
        Live([TRAP], tmp_path).sink(samples.faulty_read())
    assert len(list(tmp_path.glob("live-*-pid1-*.pt"))) == 2
