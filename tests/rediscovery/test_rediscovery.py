"""Every bug of the table, put back, is found within its budget, shrunk to a short program and named; undone, the same
program is silent."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.fuzz.replay import machines
from g4diag.fuzz.runner import Budget, run
from g4diag.fuzz.session import opened
from g4diag.hooks.install import install
from g4diag.hooks.versions import version_of
from tests.rediscovery.table import INJECTED, UPSTREAM, WITHOUT_A_BUG, Row


@pytest.mark.parametrize("row", [*UPSTREAM, *INJECTED], ids=lambda row: row.bug)
def test_a_bug_put_back_is_found_and_named(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if row.why_not:
        pytest.skip(f"sglang {version_of('sglang')}: {row.why_not}")
    # Time to shrink is plenty: on a busy machine the length must be the same.
    budget = Budget(row.examples, shrinking=200 if row.length else 0)
    with install("test", row.hooks), monkeypatch.context() as put_back:
        for name, value in row.environment.items():
            put_back.setenv(name, value)
        failure = run(row.machine, budget, row.seed, row.faults, dump_dir=tmp_path).failure
    assert failure is not None and failure.claim == row.claim, failure
    assert row.length is None or failure.length <= row.length, failure.program
    with install("test", row.cure), opened(row.machine):
        state = row.machine.drives()
        exec("\n".join(failure.program), {"state": state})
        state.holds()


def test_each_machine_has_a_bug_to_find() -> None:
    """... in the installed release, or the table says why it has none."""
    asked = {row.machine.name for row in [*UPSTREAM, *INJECTED] if not row.why_not}
    assert asked | set(WITHOUT_A_BUG) == set(machines()) and not asked & set(WITHOUT_A_BUG)


def test_what_is_told_of_it_is_the_table() -> None:
    """TRIAGE's table of faults is written from this file, where no stack is."""
    told = tomllib.loads((Path(__file__).parent / "found.toml").read_text(encoding="utf-8"))["found"]
    assert told == [{"bug": row.bug, "machine": row.machine.name, "claim": row.claim} for row in [*UPSTREAM, *INJECTED]]
