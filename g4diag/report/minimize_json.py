"""A minimisation as JSON, schema g4diag.minimize version 1."""

from __future__ import annotations

import json
from typing import Any

from g4diag.model.reduction import Case, Reduction

SCHEMA = "g4diag.minimize"
VERSION = 1


def document(found: Reduction) -> dict[str, Any]:
    """Plain values. `before`, `after`: keywords of Geometry, sizes in tokens. `stopped`: "" when the search was over.
    `faulty`, `healthy`: the two runs of the smallest case."""
    target = found.target
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "versions": dict(found.versions),
        "scenario": target.scenario,
        "state": target.state,
        "healthy_state": target.healthy,
        "seed": target.seed,
        "signature": target.signature,
        "faults_reintroduced": list(target.faults),
        "source": target.source,
        "before": dict(found.before),
        "after": dict(found.after),
        "tried": found.tried,
        "known": found.known,
        "smaller": found.smaller,
        "seconds": round(found.seconds, 3),
        "stopped": found.stopped,
        "faulty": _case(found.broken),
        "healthy": _case(found.sound),
        "test": str(found.test),
        "state_file": None if found.state_file is None else str(found.state_file),
        "exit_code": found.exit_code,
    }


def _case(case: Case) -> dict[str, Any]:
    return {
        "signature": case.signature,
        "line": case.line,
        "traps": list(case.traps),
        "step": case.step,
        "checked": case.checked,
        "divergent": case.divergent,
    }


def render(found: Reduction) -> str:
    """The document as indented text."""
    return json.dumps(document(found), indent=2, ensure_ascii=True, allow_nan=False)
