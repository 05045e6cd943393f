"""What the traps of this process have done so far, in plain counters: cheap where a server runs, told elsewhere."""

from __future__ import annotations

from collections import Counter
from typing import Any

from g4diag.model import Violation
from g4diag.traps.contract import Trap

# Views of one kind of which the first is asked what it lacks for a trap: asking costs a good part of judging.
ASKED_EVERY = 64


class Tally:
    """Keys, in this order. checks: trap, worker, layer kind; of views that lacked nothing the trap needs. violations:
    trap, severity, worker, layer kind. dumps: trap. "" where a view or violation names none. every: of so many views of
    one trap, worker, layer kind and phase the first is asked what it lacks, and answers for the rest."""

    def __init__(self, every: int = ASKED_EVERY) -> None:
        self._every = every
        self._seen: Counter[tuple[str, str, str, str]] = Counter()
        self._holds: dict[tuple[str, str, str, str], bool] = {}
        self.checks: Counter[tuple[str, str, str]] = Counter()
        self.violations: Counter[tuple[str, str, str, str]] = Counter()
        self.dumps: Counter[tuple[str]] = Counter()

    def judged(self, trap: Trap, view: Any) -> None:
        """A trap has looked at a view. What the view lacks something for was no check."""
        worker, kind = getattr(view, "worker", ""), getattr(view, "layer_kind", None) or ""
        key = (trap.name, worker, kind, getattr(view, "phase", ""))
        seen = self._seen[key]
        if seen % self._every == 0:
            self._holds[key] = not trap.needs(view)
        self._seen[key] = seen + 1
        if self._holds[key]:
            self.checks[trap.name, worker, kind] += 1

    def found(self, violation: Violation) -> None:
        """A trap has found one."""
        kind = violation.layer_kind or ""
        self.violations[violation.trap, str(violation.severity), violation.worker, kind] += 1

    def dumped(self, violation: Violation) -> None:
        """A dump of one has been written."""
        self.dumps[(violation.trap,)] += 1
