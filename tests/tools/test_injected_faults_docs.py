"""docs/injected-faults.md says what inspect says now, and tells a wrong match and a miss."""

from __future__ import annotations

import pytest

from tests.injected.truth import truths
from tools import injected_faults_docs as docs


def test_the_page_is_what_inspect_says_now() -> None:
    page = docs.DOCUMENT.read_text(encoding="utf-8")
    assert docs.document(truths()) == page, "run tools/injected_faults_docs.py"
    missed = {row.fault for row in truths() if row.is_missed}
    assert missed and all(f"| {fault} | " in page for fault in missed) and page.count("**missed**") >= 2 * len(missed)


@pytest.mark.parametrize(
    ("issue", "sure"), [("a (matched)", 1), ("a (derived)", 1), ("a (possible)", 0), ("a (guess)", 0)]
)
def test_what_is_no_guess_counts_as_a_match(issue: str, sure: int) -> None:
    assert docs._is_sure(issue) is bool(sure)
