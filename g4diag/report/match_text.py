"""Signature and known issues as text: the signature first, alone on its line."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.cure import put_back
from g4diag.model import Grade, Inspection, Outcome
from g4diag.report.first_screen import next_step
from g4diag.report.match_json import faults, unread
from g4diag.report.plain import plain

_UNSIGNED = "no signature: it is made of a broken claim about ids, which this file does not hold"


def render(inspection: Inspection) -> str:
    """Lines for a person, or for `head -1`."""
    return "\n".join(plain(line) for line in _lines(inspection))


def _lines(inspection: Inspection) -> Iterator[str]:
    named = next(iter(inspection.of("signature")), None)
    issues = inspection.of("known_issues")
    if named is not None:
        yield named.text
    elif issues or inspection.outcome.is_defect or inspection.outcome is Outcome.CRASH:
        yield f"{inspection.name}: {_UNSIGNED} ({inspection.outcome})"
    else:
        yield f"{inspection.name}: nothing to match ({inspection.outcome})"
    for other in named.data["others"] if named else ():
        yield f"  also      {other}"
    if not issues and (named is not None or inspection.outcome.is_defect or inspection.outcome is Outcome.CRASH):
        yield "  no known issue matches"
    for finding in issues:
        issue = finding.data
        yield f"  {finding.grade:<9} {issue['id']}: {issue['title']}"
        yield f"            by {issue['by']}" + (f"; {'; '.join(issue['facts'])}" if issue["facts"] else "")
        references = ", ".join(issue["references"]) or "no upstream thread known"
        yield f"            {references}; affected: {issue['affected']}"
        if issue["affected_releases"]:
            yield f"            affected releases: {issue['affected_releases']}"
        yield f"            cure: {issue['cure']}{put_back(faults(inspection))}"
    if step := next_step(inspection):
        yield f"  next      {step}"
    for finding in inspection.of("provenance"):
        if finding.data.get("faults"):
            yield f"  {finding.grade:<9} {finding.text}"
    for part in inspection.parts:
        yield f"  file      {_part(part)}"
    for text in unread(inspection):
        yield f"  measured  {text}"


def _part(part: Inspection) -> str:
    """One line: the part's own signature, the issues that it matches, and what was put back in it."""
    signatures = [finding.text for finding in part.of("signature")]
    issues = [
        f"{'a guess: ' if finding.grade is Grade.GUESS else ''}{finding.data['id']}"
        for finding in part.of("known_issues")
    ]
    said = [*signatures[:1], ", ".join(issues) or "no known issue matches"]
    if not signatures and not issues:
        said = [f"nothing to match ({part.outcome})"]
    if put_back := faults(part):
        said.append(f"faults put back on purpose: {', '.join(put_back)}")
    return f"{part.name}: {'; '.join(said)}"
