"""What comes of an inspection, or of two files side by side: plain values, which cross from the process that reads
to the one that shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from g4diag.model.findings import Finding

# A folder's files of no kind that is read: what a note on them begins with.
SKIPPED = "skipped, as nothing that g4diag reads: "


class Outcome(StrEnum):
    """What a file comes to: the first word of its report. From the surest to the least."""

    ERROR = "error"  # a claim is broken, judged here
    LIKELY = "likely"  # recorded or derived; the sources are named
    LEAK = "leak"  # a pool's sums do not come out
    HARDWARE = "hardware"  # the GPU, its memory or its bus
    CRASH = "crash"  # told, and its cause is not in the file
    HEALTHY = "healthy"  # judged, and nothing is broken
    INCONCLUSIVE = "inconclusive"  # nothing could be judged, or not all of it

    @property
    def is_defect(self) -> bool:
        """Whether it names what is wrong."""
        return self in (Outcome.ERROR, Outcome.LIKELY, Outcome.LEAK, Outcome.HARDWARE)

    @property
    def exit_code(self) -> int:
        """The house's exit code for it."""
        return 1 if self.is_defect else 0 if self is Outcome.HEALTHY else 4


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
