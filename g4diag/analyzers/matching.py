"""Match a case against the known issues, by what it shows and by facts.

Matched: an issue shows in one of its forms, and every fact that tells it from others is known and holds. Possible: it
shows, and no fact speaks against it. Nothing else is said of an issue.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass

from g4diag.analyzers.causes import headline
from g4diag.analyzers.facts import Facts, facts_of
from g4diag.analyzers.issues import Form, KnownIssue, known_issues
from g4diag.analyzers.judging import judge
from g4diag.analyzers.once import once
from g4diag.analyzers.recorded_violations import recorded
from g4diag.matrix.cells import matrix
from g4diag.model import Grade, Incident
from g4diag.signature import signature

__all__ = ["Match", "facts_of", "known_issues", "matches"]

_MAX_TEXT = 1 << 16


@dataclass(frozen=True)
class Match:
    """is_matched: else it is only possible. by: the signature or the line that it shows in. facts: those asked for
    that hold, as `key: value`. missing: those that would make it matched and are not known, or point elsewhere."""

    issue: KnownIssue
    is_matched: bool
    by: str
    facts: tuple[str, ...]
    missing: tuple[str, ...]
    by_signature: bool

    @property
    def grade(self) -> Grade:
        """Matched is derived, and possible a guess."""
        return Grade.DERIVED if self.is_matched else Grade.GUESS


@once
def matches(incident: Incident) -> tuple[Match, ...]:
    """Known issues that fit, matched ones first, then those that show in a signature, then by how much holds."""
    facts, signatures, text = facts_of(incident), _signatures(incident), _text(incident)
    found = []
    for issue in known_issues():
        standing, release = _release(issue, incident)
        of_issue = [m for form in issue.forms if (m := _match(issue, form, facts, signatures, text, release))]
        if of_issue and standing:
            found.append(min(of_issue, key=_rank))
    return tuple(sorted(found, key=_rank))


def matched(incident: Incident) -> Match | None:
    """The best of those whose every fact holds, None if there is none."""
    return next((match for match in matches(incident) if match.is_matched), None)


def _rank(match: Match) -> tuple[bool, bool, int]:
    return not match.is_matched, not match.by_signature, -len(match.facts)


def _match(
    issue: KnownIssue, form: Form, facts: Facts, signatures: list[str], text: str, release: tuple[str, ...]
) -> Match | None:
    by_signature = next((s for s in signatures for p in form.signatures if fnmatch.fnmatchcase(s, p)), None)
    by_line = next((found[0] for pattern in form.says if (found := pattern.search(text))), None)
    by = by_signature or by_line
    if by is None or any(facts.get(key, frozenset()) & barred for key, barred in form.unless.items()):
        return None
    asked = [*form.needs.items(), *form.facts.items(), *form.tells.items()]
    held = [key for key, wanted in asked if facts.get(key, frozenset()) & wanted]
    against = [key for key in (*form.needs, *form.facts) if key in facts and key not in held]
    if against or any(key not in held for key in form.needs):
        return None
    missing = tuple(f"{key}: {' or '.join(sorted(wanted))}" for key, wanted in asked if key not in held)
    # A line without a fact is what many bugs say.
    is_matched = not missing and issue.sure != "title" and bool(held)
    known = (*_told(facts, held), *release)
    return Match(issue, is_matched, by, known, missing, by_signature is not None)


def _told(facts: Facts, keys: list[str]) -> Iterator[str]:
    yield from (f"{key}: {', '.join(sorted(facts[key]))}" for key in dict.fromkeys(keys))


def _release(issue: KnownIssue, incident: Incident) -> tuple[bool, tuple[str, ...]]:
    """(whether the bug may be in the release that the file names, what to say of it). A fault that was put back on
    purpose makes the code another than the release's, and a source build is in no matrix."""
    release = incident.versions.get("sglang")
    if not release:
        return True, ()
    if incident.manifest.get("faults"):
        return True, ()
    cell = matrix().cell(issue.id, release)
    if cell is None or cell.standing in ("unknown", "cannot run"):
        return True, ()
    return cell.standing == "alive", (f"release: {release}, where it is {cell.standing}",)


def _signatures(incident: Incident) -> list[str]:
    """The verdict's signature, then the others; where nothing can be judged again, those on record."""
    judgement = judge(incident)
    first = headline(incident)
    hits = [first, *judgement.hits] if first else []
    violations = [hit.violation for hit in hits] or ([] if judgement.checked else list(recorded(incident)))
    return list(dict.fromkeys(map(signature, violations)))


def _text(incident: Incident) -> str:
    """What others said of the crash, one line each, cut at _MAX_TEXT."""
    return "\n".join(_lines(incident))[:_MAX_TEXT]


def _lines(incident: Incident) -> Iterator[str]:
    yield from (event.text for event in incident.log)
    yield from (text for _, text in incident.notes)
    yield from (record.text for record in incident.ring if record.text)
    tail = incident.context.get("log_tail")
    yield from (str(line) for line in tail) if isinstance(tail, list) else ()
