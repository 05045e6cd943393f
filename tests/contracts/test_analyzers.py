"""Every file in analyzers/ keeps the analyzer contract; a newcomer is picked up by being there."""

from __future__ import annotations

import pytest

from g4diag.analyzers.contract import Analyzer
from g4diag.discover import Contribution, contributions
from g4diag.model import Finding, Incident

ANALYZERS = contributions("g4diag.analyzers", "ANALYZER")
each_analyzer = pytest.mark.parametrize("found", ANALYZERS, ids=lambda found: found.name)


def test_analyzers_are_found() -> None:
    assert "verdict" in {found.name for found in ANALYZERS}


@each_analyzer
def test_it_asks_one_question_by_its_modules_name(found: Contribution) -> None:
    assert found.error is None
    assert isinstance(found.value, Analyzer)
    assert found.value.name == found.name
    assert found.value.question.endswith("?")


@each_analyzer
def test_an_empty_incident_is_no_defect(found: Contribution) -> None:
    findings = list(found.value.analyze(Incident(origin="g4diag")))
    assert all(isinstance(finding, Finding) for finding in findings)
    assert not any(finding.is_defect for finding in findings)
