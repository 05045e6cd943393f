"""Match an incident against known_issues.toml: by signature, or by lines that others left, then by facts."""

from __future__ import annotations

import fnmatch
import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from g4diag.analyzers.explanations import explanations, winner
from g4diag.analyzers.judging import Judged, judge, lead
from g4diag.analyzers.recorded_violations import recorded
from g4diag.model import AttentionRead, Grade, Incident, PoolSwap
from g4diag.signature import signature

Facts = Mapping[str, frozenset[str]]
_MAX_TEXT = 1 << 16
_CONDITIONS = ("needs", "when", "unless", "flags")
_OWN = ("ran", "read")
_SURE = (*_OWN, "thread", "title")


@dataclass(frozen=True)
class KnownIssue:
    """One entry of the data file; its head says what the fields mean."""

    id: str
    title: str
    symptom: str
    references: tuple[str, ...]
    affected: str
    cure: str
    sure: str
    next: str
    signatures: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    needs: Facts = field(default_factory=dict)
    when: Facts = field(default_factory=dict)
    unless: Facts = field(default_factory=dict)
    flags: Facts = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sure not in _SURE:
            raise ValueError(f"{self.id}: sure: wanted one of {', '.join(_SURE)}, found {self.sure!r}")


@dataclass(frozen=True)
class Match:
    """grade: derived where everything the entry asks for is known and holds, else a guess. by: the signature or the
    line that matched. facts: those the entry asks for and that are known, as `key: value`."""

    issue: KnownIssue
    grade: Grade
    by: str
    facts: tuple[str, ...]
    by_signature: bool


@functools.cache
def known_issues() -> tuple[KnownIssue, ...]:
    """The entries of the data file, in its order. Raises where an entry is malformed: it is ours."""
    text = resources.files("g4diag.analyzers").joinpath("known_issues.toml").read_text(encoding="utf-8")
    return tuple(map(_entry, tomllib.loads(text)["issue"]))


def _entry(row: dict[str, Any]) -> KnownIssue:
    facts = {name: {key: frozenset(row[name][key]) for key in row[name]} for name in _CONDITIONS if name in row}
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return KnownIssue(**plain | facts)


def matches(incident: Incident) -> tuple[Match, ...]:
    """Known issues that fit, the best first: derived before guess, by signature before by a line, then by how much
    they ask for."""
    facts, signatures, text = facts_of(incident), _signatures(incident), _text(incident)
    found = [match for issue in known_issues() if (match := _match(issue, facts, signatures, text))]
    return tuple(
        sorted(found, key=lambda match: (match.grade is Grade.GUESS, not match.by_signature, -len(match.issue.needs)))
    )


def _match(issue: KnownIssue, facts: Facts, signatures: list[str], text: str) -> Match | None:
    by_signature = next((s for s in signatures for p in issue.signatures if fnmatch.fnmatchcase(s, p)), None)
    by_line = next((found[0] for pattern in issue.says if (found := re.search(pattern, text))), None)
    asked = {**issue.needs, **issue.when}
    held = [key for key, wanted in asked.items() if facts.get(key, frozenset()) & wanted]
    contradicted = [key for key in asked if key in facts and key not in held]
    if contradicted or any(facts.get(key, frozenset()) & barred for key, barred in issue.unless.items()):
        return None
    if by_signature is not None and not all(key in held for key in issue.needs):
        by_signature = None
    by = by_signature or by_line
    if by is None:
        return None
    settled = len(held) == len(asked) and issue.sure in _OWN and bool(by_signature or issue.needs)
    known = tuple(f"{key}: {', '.join(sorted(facts[key]))}" for key in held)
    return Match(issue, Grade.DERIVED if settled else Grade.GUESS, by, known, by_signature is not None)


def _signatures(incident: Incident) -> list[str]:
    """The verdict's signature, then the others; where nothing can be judged again, those on record."""
    judgement = judge(incident)
    first = lead(judgement.hits)
    hits = [first, *judgement.hits] if first else []
    violations = [hit.violation for hit in hits] or ([] if judgement.checked else list(recorded(incident)))
    return list(dict.fromkeys(map(signature, violations)))


def facts_of(incident: Incident) -> Facts:
    """What is known of the violation the verdict names. A fact that is not known has no key."""
    judgement = judge(incident)
    first = lead(judgement.hits)
    found = {"origin": {incident.origin}, "outcome": {"defect" if first else "clean" if judgement.checked else "none"}}
    on_record = None if judgement.checked else next(iter(recorded(incident)), None)
    if violation := first.violation if first else on_record:
        found["worker"] = {violation.worker}
        found["table"] = {str(violation.value_space or "")} if violation.layer_kind else {""}
    if first and isinstance(first.view, AttentionRead):
        found |= _of_read(first.view, incident)
    if swaps := {_swap(hit) for hit in judgement.hits if isinstance(hit.view, PoolSwap)} - {""}:
        found["swap"] = swaps
    return {key: frozenset(values - {""}) for key, values in found.items() if values - {""}}


def _of_read(read: AttentionRead, incident: Incident) -> dict[str, set[str]]:
    """What the table holds by its values, and which table it is: by the backend's label, else by those values."""
    best = winner(explanations(read, incident))
    if best is None:
        return {}
    is_of_other = best.name in _OF_OTHER_SPACE and read.table_space is None and read.expected_BP() is not None
    told = str(read.expected_space.other) if is_of_other else ""
    return {"holds": {best.name}, **({"table": {told}} if told else {})}


# Readings of a table whose ids are those of the other pool, by slot or by page as the read is.
_OF_OTHER_SPACE = ("full-ids", "swa-ids")


def _swap(hit: Judged) -> str:
    """How a broken pool swap is broken, in the words of the data file."""
    swap = hit.view
    if not isinstance(swap, PoolSwap) or swap.moment == "exit":
        return ""
    if swap.wanted_pool is not None and swap.read_pool != swap.wanted_pool:
        return "child-missed"
    if swap.read_pool_is_swa and swap.swa_state != swap.read_pool:
        return "no-swa-state"
    return "graph-tables" if swap.read_pool_is_swa or swap.frozen_kv else "own-pool-translated"


def _text(incident: Incident) -> str:
    """What others said of the crash, one line each, cut at _MAX_TEXT."""
    return "\n".join(_lines(incident))[:_MAX_TEXT]


def _lines(incident: Incident) -> Iterator[str]:
    yield from (event.text for event in incident.log)
    yield from (text for _, text in incident.notes)
    yield from (record.text for record in incident.ring if record.text)
    tail = incident.context.get("log_tail")
    yield from (str(line) for line in tail) if isinstance(tail, list) else ()
