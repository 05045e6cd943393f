"""What the traps of this process have done so far, in plain counters: cheap where a server runs, told elsewhere."""

from __future__ import annotations

from collections import Counter
from typing import Any

from g4diag.model import Violation
from g4diag.traps.contract import Trap


class Tally:
    """Keys, in this order. checks: trap, worker, layer kind; of views that lacked nothing the trap needs. violations:
    trap, severity, worker, layer kind. dumps: trap. "" where a view or violation names none."""

    def __init__(self) -> None:
        self.checks: Counter[tuple[str, str, str]] = Counter()
        self.violations: Counter[tuple[str, str, str, str]] = Counter()
        self.dumps: Counter[tuple[str]] = Counter()

    def judged(self, trap: Trap, view: Any) -> None:
        """A trap has looked at a view. What the view lacks something for was no check."""
        if not trap.needs(view):
            kind = getattr(view, "layer_kind", None)
            self.checks[trap.name, getattr(view, "worker", ""), "" if kind is None else str(kind)] += 1

    def found(self, violation: Violation) -> None:
        """A trap has found one."""
        kind = "" if violation.layer_kind is None else str(violation.layer_kind)
        self.violations[violation.trap, str(violation.severity), violation.worker, kind] += 1

    def dumped(self, violation: Violation) -> None:
        """A dump of one has been written."""
        self.dumps[(violation.trap,)] += 1
