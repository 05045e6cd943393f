"""Analyzers, one question a file, and `g4diag inspect` as one library call: open, ask every analyzer, conclude."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from g4diag.analyzers.judging import judge
from g4diag.discover import contributions
from g4diag.dump.reader import read_dump
from g4diag.model import Finding, Grade, Incident


class Outcome(StrEnum):
    """What a file comes to."""

    CLEAN = "clean"
    DEFECT = "defect"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_code(self) -> int:
        """The house's exit code for it."""
        return {Outcome.CLEAN: 0, Outcome.DEFECT: 1, Outcome.INCONCLUSIVE: 4}[self]


@dataclass(frozen=True)
class Inspection:
    """name: the file's own name. origin: who wrote it. findings: every analyzer's, by analyzer name."""

    name: str
    origin: str
    outcome: Outcome
    findings: tuple[Finding, ...]

    def of(self, subject: str) -> tuple[Finding, ...]:
        """The findings of one analyzer."""
        return tuple(finding for finding in self.findings if finding.subject == subject)


def inspect_file(path: Path) -> Inspection:
    """Read and judge one dump. Raises UsageError or UnsafeInputError as `read_dump` does."""
    return inspect_incident(read_dump(path), path.name)


def inspect_incident(incident: Incident, name: str) -> Inspection:
    """The same of an incident in memory. A trap or analyzer that is itself broken rules out a clean outcome."""
    findings: list[Finding] = []
    broken = False
    for found in contributions("g4diag.analyzers", "ANALYZER"):
        if found.error is None:
            findings.extend(found.value.analyze(incident))
        else:
            broken = True
            findings.append(Finding(found.name, f"this analyzer does not load: {found.error}", Grade.MEASURED))
    judgement = judge(incident)
    if judgement.hits:
        outcome = Outcome.DEFECT
    elif broken or judgement.errors or not judgement.checked:
        outcome = Outcome.INCONCLUSIVE
    else:
        outcome = Outcome.CLEAN
    return Inspection(name, incident.origin, outcome, tuple(findings))
