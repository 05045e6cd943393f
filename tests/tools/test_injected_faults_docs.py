"""docs/injected-faults.md says what inspect says now, and tells a wrong match and a miss."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.injected.truth import truths
from tools import injected_faults_docs as docs


def test_the_page_is_what_inspect_says_now() -> None:
    page = docs.DOCUMENT.read_text(encoding="utf-8")
    assert docs.document(truths()) == page, "run tools/injected_faults_docs.py"
    faults, missed = {row.fault for row in truths()}, {row.fault for row in truths() if row.is_missed}
    assert faults and all(f"| {fault} | " in page for fault in faults)
    assert page.count("**missed**") >= 2 * len(missed) and ("**missed**" in page) is bool(missed)


def test_a_miss_is_told() -> None:
    row = next(row for row in truths() if row.live)
    page = docs.document([replace(row, live=(), offline=())])
    assert page.count("**missed**") == 2 and f"No trap sees 1: {row.fault}" in page


@pytest.mark.parametrize(
    ("issue", "sure"), [("a (matched)", 1), ("a (derived)", 1), ("a (possible)", 0), ("a (guess)", 0)]
)
def test_what_is_no_guess_counts_as_a_match(issue: str, sure: int) -> None:
    assert docs.is_sure(issue) is bool(sure)
