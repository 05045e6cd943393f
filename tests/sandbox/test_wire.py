"""What crosses comes back equal, and what does not fit its annotation is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from g4diag.errors import UnsafeInputError
from g4diag.model import Finding, Grade, Inspection, Outcome, RingRecord, Violation
from g4diag.model.findings import Severity
from g4diag.sandbox.wire import from_plain, to_plain

FINDING = Finding("pools", "full: 9 pages", Grade.DERIVED, True, {"use": None, "rows": [1, 2.5, "x", {"y": False}]})
PART = Inspection("a.pt", "g4diag", Outcome.HEALTHY, (FINDING,))
WHOLE = replace(PART, name="dir", outcome=Outcome.ERROR, parts=(PART, PART))


@pytest.mark.parametrize(
    "value",
    [WHOLE, FINDING, RingRecord(1, 2, "step", rids=("a",)), Violation("t", Severity.ERROR, "s", step=3)],
    ids=lambda value: type(value).__name__,
)
def test_there_and_back(value: Any) -> None:
    assert from_plain(type(value), json.loads(json.dumps(to_plain(value)))) == value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"outcome": "fine"}, "answer.outcome: wanted"),
        ({"name": 7}, "answer.name: wanted"),
        ({"findings": {}}, "answer.findings: wanted"),
        ({"findings": [{"subject": "x"}]}, r"answer.findings\[0\]: wanted the fields of Finding"),
        ({"extra": 1}, "wanted the fields of Inspection"),
        ({"parts": [None]}, r"answer.parts\[0\]: wanted"),
    ],
)
def test_what_does_not_fit(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsafeInputError, match=said):
        from_plain(Inspection, to_plain(PART) | change)
