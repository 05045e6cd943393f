"""fa3-spec-swa-table: its fault is named at the kernel's call, and the dump holds the read and matches the issue."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.analyzers.matching import matches
from g4diag.dump.reader import read_dump
from g4diag.scenario import DriveOutcome, Options
from repro.fa3_spec_swa_table import SCENARIO
from tests.repro.conftest import silent


def test_the_fault_is_named_and_dumped_and_all_else_is_silent(tmp_path: Path) -> None:
    outcome = SCENARIO.run(Options(dump_dir=tmp_path), silent)
    assert isinstance(outcome, DriveOutcome)
    rows = {row.state: row for row in outcome.readings}
    assert all(row.as_expected and row.judged for row in rows.values())
    assert rows["faulty"].traps == ("page_table_in_layer_space", "page_table_stays_in_pool")
    assert rows["faulty"].damaged > 50 and not any(rows[name].damaged for name in ("upstream", "hidden", "chain"))
    assert set(outcome.dumps) == {"faulty"}
    incident = read_dump(outcome.dumps["faulty"])
    assert {violation.trap for violation in incident.violations} == set(rows["faulty"].traps)
    assert matches(incident)[0].issue.id == "fa3-spec-swa-table"
