"""One call from incident to outcome; a broken trap or analyzer rules out a clean one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from g4diag import analyzers
from g4diag.analyzers import Outcome, inspect_incident, judging
from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.rejudge import ANALYZER as REJUDGE
from g4diag.discover import Contribution, contributions
from g4diag.model import AttentionRead, Incident
from g4diag.traps.contract import Trap
from g4diag.traps.page_table_stays_in_pool import TRAP
from tests import samples, strategies


def test_outcomes() -> None:
    assert inspect_incident(samples.faulty_incident(), "x").outcome is Outcome.DEFECT
    assert inspect_incident(samples.incident(samples.healthy_read()), "x").outcome is Outcome.CLEAN
    assert inspect_incident(samples.incident(), "x").outcome is Outcome.INCONCLUSIVE


def test_a_read_without_live_entries_is_nothing_to_judge() -> None:
    read = samples.faulty_read(seq_lens_B=samples.healthy_read().seq_lens_B * 0)
    assert inspect_incident(samples.incident(read), "x").outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("found", contributions("g4diag.analyzers", "ANALYZER"), ids=lambda found: found.name)
def test_every_analyzer_keeps_the_contract(found: Contribution) -> None:
    assert found.error is None and isinstance(found.value, Analyzer)
    assert found.value.name == found.name and found.value.question.endswith("?")
    assert all(finding.subject == found.name for finding in found.value.analyze(samples.faulty_incident()))


def test_a_raising_trap_leaves_no_clean_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: AttentionRead) -> list[None]:
        raise ZeroDivisionError("oops")

    trap = Trap("broken", "", "", "", ("offline",), AttentionRead, broken)  # type: ignore[arg-type]
    rows = [Contribution("broken", "x", trap), Contribution("gone", "y", error="ImportError: z")]
    monkeypatch.setattr(judging, "contributions", lambda *_: rows)
    inspection = inspect_incident(samples.incident(samples.healthy_read()), "x")
    assert inspection.outcome is Outcome.INCONCLUSIVE
    assert any("ZeroDivisionError: oops" in finding.text for finding in inspection.of("rejudge"))


def test_a_broken_analyzer_is_said_and_hides_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Contribution("gone", "y", error="ImportError: z")]
    monkeypatch.setattr(analyzers, "contributions", lambda *_: rows)
    assert inspect_incident(samples.incident(samples.healthy_read()), "x").outcome is Outcome.INCONCLUSIVE
    assert inspect_incident(samples.faulty_incident(), "x").outcome is Outcome.DEFECT


def test_recorded_violations_that_no_longer_hold_are_said() -> None:
    recorded = tuple(TRAP.judge(samples.faulty_read()))
    findings = list(REJUDGE.analyze(samples.incident(samples.healthy_read(), violations=recorded)))
    assert findings[-1].data == {"trap": "page_table_stays_in_pool", "disagrees": "cleared"}


@settings(max_examples=40, deadline=None)
@given(strategies.incidents)
def test_any_incident_can_be_inspected(incident: Incident) -> None:
    inspect_incident(incident, "x")
