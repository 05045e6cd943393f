"""Budgets, databases, and several processes' runs of one machine put together."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis.database import DirectoryBasedExampleDatabase

from g4diag.errors import CannotRunError, UsageError
from g4diag.fuzz import profiles
from g4diag.fuzz.jobs import Plan, _merged, campaign, line_of
from g4diag.model.campaign import Campaign, Failure, MachineRun

FAILURE = Failure("slot_has_one_owner", "text", ("state.start()",), found_after=7, seconds=1.0, shrink_seconds=2.0)
ONE = MachineRun("m", 0, examples=10, steps=100, seconds=2.0, inside=1.0, coverage={"a": 1}, judged={"t": 5})
ONE = replace(ONE, missing=("b", "c"), broken_off=4)
TWO = replace(ONE, seed=1, steps=300, seconds=6.0, inside=5.0, coverage={"a": 2, "b": 1}, missing=("c",))


def test_examples_are_shared_among_processes_and_minutes_among_machines() -> None:
    assert Plan(examples=7, jobs=2).budget().examples == 4
    assert Plan(machines=("a", "b"), minutes=3).budget().seconds == 90
    assert Plan(machines=("a", "b"), minutes=3).budget().examples is None


def test_a_process_that_was_killed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel for want of memory, as a rule: no defect of ours."""
    pytest.importorskip("sglang")

    def killed(*_: object) -> None:
        raise BrokenProcessPool("A process was terminated abruptly")

    monkeypatch.setattr(ProcessPoolExecutor, "map", killed)
    with pytest.raises(CannotRunError, match="2 processes to live to their end, found one killed"):
        campaign(Plan(jobs=2))


def test_runs_of_several_processes_are_one() -> None:
    """They ran at the same time: seconds are the longest's, and a goal that one of them reached is reached."""
    merged = _merged([ONE, TWO])
    assert (merged.examples, merged.steps, merged.seconds, merged.missing) == (20, 400, 6.0, ("c",))
    assert merged.broken_off == 8
    assert merged.coverage == {"a": 3, "b": 1} and merged.judged == {"t": 10}
    assert merged.share == pytest.approx(6 / 8)
    assert merged.exit_code == 4


def test_a_failure_of_one_process_is_the_campaigns() -> None:
    merged = _merged([ONE, replace(TWO, failure=FAILURE)])
    assert merged.failure is FAILURE and merged.seed == 1
    assert Campaign((ONE, merged), {}).exit_code == 1


def test_exit_codes_put_a_find_before_a_vacuous_run() -> None:
    clean = replace(ONE, missing=())
    assert [
        Campaign(runs, {}).exit_code for runs in [(clean,), (clean, ONE), (ONE, replace(ONE, failure=FAILURE))]
    ] == [
        0,
        4,
        1,
    ]


def test_a_run_of_no_step_is_vacuous_whatever_it_says() -> None:
    assert replace(ONE, missing=(), steps=0).exit_code == 4


def test_progress_names_what_is_still_missing() -> None:
    assert (
        line_of(replace(ONE, broken_off=0)) == "m seed 0: 10 examples, 100 steps, 50/s, 50% inside sglang, not yet: b c"
    )
    assert line_of(replace(ONE, missing=())).endswith("all goals reached")


def test_the_place_of_finds_is_as_asked_then_the_variable_then_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert profiles.place(None) == ".hypothesis/examples"
    monkeypatch.setenv("G4DIAG_FUZZ_DB", "redis://127.0.0.1:6379/0")
    assert profiles.place(None) == "redis://127.0.0.1:6379/0"
    assert profiles.place("elsewhere") == "elsewhere"
    assert profiles.place(None, "") == "redis://127.0.0.1:6379/0"
    monkeypatch.delenv("G4DIAG_FUZZ_DB")
    assert profiles.place(None, "") == "", "a bug put back on purpose is kept nowhere unless a place is named"


def test_a_folder_keeps_what_it_is_given(tmp_path: Path) -> None:
    database = profiles.Keep(str(tmp_path)).database()
    assert isinstance(database, DirectoryBasedExampleDatabase)
    database.save(b"key", b"value")
    assert set(profiles.Keep(str(tmp_path)).database().fetch(b"key")) == {b"value"}
    assert profiles.Keep().database() is None


def test_a_server_that_does_not_answer_is_named() -> None:
    pytest.importorskip("redis")
    with pytest.raises(CannotRunError, match=r"wanted a Redis server at redis://127\.0\.0\.1:1/0, found "):
        profiles.Keep("redis://127.0.0.1:1/0").database()


def test_an_unknown_profile_is_refused() -> None:
    assert [profiles.profile(name).keeps for name in ("dev", "ci", "nightly")] == [True, False, True]
    with pytest.raises(UsageError, match="found 'weekly'"):
        profiles.profile("weekly")
