"""The outcome of a scenario of drives as JSON, schema g4diag.repro-drive version 1.

The same run gives the same bytes but for `seconds`, which stands alone at the end.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from g4diag.report.repro_json import row, standing
from g4diag.scenario import DriveOutcome

SCHEMA = "g4diag.repro-drive"
VERSION = 1


def document(outcome: DriveOutcome) -> dict[str, Any]:
    """Plain values. `readings`: one row a state. `dumps`: state -> file. `score`: [right, of] each. `cell`, `left_out`:
    as in g4diag.repro."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "scenario": outcome.scenario,
        "versions": outcome.versions,
        "upstream": outcome.upstream,
        "faults_reintroduced": list(outcome.faults),
        "readings": list(map(row, outcome.readings)),
        "verdict": list(outcome.lines),
        "dumps": {state: str(path) for state, path in outcome.dumps.items()},
        "score": asdict(outcome.score),
        **standing(outcome),
        "as_expected": outcome.as_expected,
        "exit_code": 0 if outcome.as_expected else 1,
        "seconds": {name: round(value, 3) for name, value in outcome.seconds.items()},
    }


def render(outcome: DriveOutcome) -> str:
    """The document as indented text."""
    return json.dumps(document(outcome), indent=2, ensure_ascii=True, allow_nan=False)
