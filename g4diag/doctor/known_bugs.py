"""Known bugs that are alive in a release, held against a command line."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from g4diag.analyzers.issues import KnownIssue, known_issues
from g4diag.errors import UsageError
from g4diag.hazards.deployment import Deployment
from g4diag.hazards.facts import judge_facts
from g4diag.matrix.cells import Cell, known_release, matrix
from g4diag.model.doctor import BugRow

_PATCHES = re.compile(r"--patches ([\w,-]+)")


def alive_in(release: str) -> list[tuple[KnownIssue, Cell]]:
    """By the matrix. release: as it names one."""
    bugs = ((issue, matrix().cell(issue.id, release)) for issue in known_issues())
    return [(issue, cell) for issue, cell in bugs if cell is not None and cell.standing == "alive"]


def bug_row(issue: KnownIssue, cell: Cell, deployment: Deployment) -> BugRow | None:
    """None where the flags rule it out."""
    verdict, missing = judge_facts(issue.flags, deployment)
    if verdict == "ruled out":
        return None
    return BugRow(
        name=issue.id,
        title=issue.title,
        ran=cell.ran,
        date=cell.date,
        why=cell.why,
        source=cell.source,
        cure=issue.cure_for(deployment.sglang),
        references=issue.references,
        met=verdict == "met" and bool(issue.flags),
        missing=missing or (() if issue.flags else ("whether a server meets it: no flag tells",)),
    )


def met_here(deployment: Deployment, patches: Collection[str] = ()) -> Iterator[BugRow]:
    """Those of the deployment's own release that its flags meet; none of a release that is not known. patches: those
    that will be on; a bug that one of them cures is not met."""
    try:
        release = known_release(deployment.sglang, matrix())
    except (KeyError, UsageError):
        return
    for issue, cell in alive_in(release):
        named = _PATCHES.search(issue.cure_for(release))  # the first is the cure; others go beside it
        cures = set(named[1].split(",")) if named else set()
        row = bug_row(issue, cell, deployment)
        if row is not None and row.met and not cures & set(patches):
            yield row
