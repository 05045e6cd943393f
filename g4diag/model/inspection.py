"""What comes of an inspection, or of two files side by side: plain values, which cross from the process that reads
to the one that shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from g4diag.model.findings import Finding


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
    """name: the file's own name. origin: who wrote it. findings: every analyzer's, by analyzer name.
    parts: of several files or a directory, each by itself; none for one plain file."""

    name: str
    origin: str
    outcome: Outcome
    findings: tuple[Finding, ...]
    parts: tuple[Inspection, ...] = ()

    def of(self, subject: str) -> tuple[Finding, ...]:
        """The findings of one analyzer."""
        return tuple(finding for finding in self.findings if finding.subject == subject)


class Likeness(StrEnum):
    """What two files come to, side by side."""

    SAME = "same"
    DIFFER = "differ"
    NOT_COMPARABLE = "not comparable"

    @property
    def exit_code(self) -> int:
        """The house's exit code for it."""
        return {Likeness.SAME: 0, Likeness.DIFFER: 1, Likeness.NOT_COMPARABLE: 4}[self]


@dataclass(frozen=True)
class Comparison:
    """Two files side by side. names: theirs. findings: subject "table", "allocation", "mapping", "pools", "verdict",
    "manifest", "versions"; the first is what diverges first. compared: entries and ids that were laid side by side."""

    names: tuple[str, str]
    likeness: Likeness
    findings: tuple[Finding, ...]
    compared: int
