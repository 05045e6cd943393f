"""Which known issue this is: known_issues.toml, matched by signature, facts and the lines others left."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.matching import Match, matches
from g4diag.matrix.cells import matrix
from g4diag.matrix.words import affected_releases
from g4diag.model import Finding, Incident

_SHOWN = 3


def analyze(incident: Incident) -> Iterator[Finding]:
    """The best matches first; those that are only a guess are left out where one is derived."""
    found = matches(incident)
    sure = [match for match in found if match.grade is found[0].grade]
    for match in sure[:_SHOWN]:
        data = _data(match, incident.versions.get("sglang", ""))
        yield Finding("known_issues", _sentence(match), match.grade, False, data, "issue", match.facts)


def _sentence(match: Match) -> str:
    issue = match.issue
    references = f" ({', '.join(issue.references)})" if issue.references else " (no upstream thread known)"
    known = " [only the thread's title is known here]" if issue.sure == "title" else ""
    how = "matched" if match.is_matched else "possible"
    facts = f" by {', '.join(match.facts)}" if match.facts else ""
    facts += f"; not told: {', '.join(match.missing)}" if match.missing else ""
    return f"{issue.id} ({how}{facts}): {issue.title}{references}; affected: {issue.affected}{known}"


def _data(match: Match, release: str) -> dict[str, object]:
    issue = match.issue
    return {
        "id": issue.id,
        "title": issue.title,
        "symptom": issue.symptom,
        "references": list(issue.references),
        "affected": issue.affected,
        "affected_releases": affected_releases(matrix(), issue.id),
        "cure": issue.cure_for(release),
        "sure": issue.sure,
        "next": issue.next,
        "by": match.by,
        "facts": list(match.facts),
        "missing": list(match.missing),
    }


ANALYZER = Analyzer("known_issues", "Which known issue is it?", analyze)
