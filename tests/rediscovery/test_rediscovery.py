"""Every bug of the table, put back, is found within its budget, shrunk to a short program and named; undone, the same
program is silent."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.fuzz.runner import Budget, run
from g4diag.fuzz.session import opened
from g4diag.hooks.install import install
from tests.rediscovery.table import INJECTED, UPSTREAM, Row


@pytest.mark.parametrize("row", [*UPSTREAM, *INJECTED], ids=lambda row: row.bug)
def test_a_bug_put_back_is_found_and_named(row: Row, tmp_path: Path) -> None:
    # Time to shrink is plenty: on a busy machine the length must be the same.
    budget = Budget(row.examples, shrinking=200 if row.length else 0)
    with install("test", row.hooks):
        failure = run(row.machine, budget, row.seed, row.faults, dump_dir=tmp_path).failure
    assert failure is not None and failure.claim == row.claim, failure
    assert row.length is None or failure.length <= row.length, failure.program
    with install("test", row.cure), opened(row.machine):
        state = row.machine.drives()
        exec("\n".join(failure.program), {"state": state})
        state.holds()
