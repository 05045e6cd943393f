"""docs/confusion.md says what match says now: each file its own issue or none, and innocent logs nothing."""

from __future__ import annotations

import functools

from g4diag.analyzers.issues import known_issues
from tools import confusion_docs as docs


@functools.cache
def found() -> tuple[docs.Found, ...]:
    return tuple(map(docs.look, docs.cases()))


def test_the_page_is_what_match_says_now() -> None:
    assert docs.document(found()) == docs.DOCUMENT.read_text(encoding="utf-8"), "run tools/confusion_docs.py"


def test_no_file_is_matched_to_an_issue_that_it_is_not() -> None:
    assert len(found()) >= 80 and not [row for row in found() if row.is_wrong]
    assert sum(row.matched == (row.case.issue,) for row in found() if row.case.issue) >= 25
    assert all(row.case.issue in (*row.matched, *row.possible) for row in found() if row.case.issue)


def test_innocent_logs_name_nothing() -> None:
    innocent = [row for row in found() if row.case.kind == "innocent"]
    assert len(innocent) >= 10 and not [row for row in innocent if row.matched or row.possible]


def test_every_issue_named_is_a_known_one() -> None:
    ids = {issue.id for issue in known_issues()}
    assert {name for row in found() for name in (*row.matched, *row.possible)} <= ids
