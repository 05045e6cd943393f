"""A scenario's outcome as JSON, schema g4diag.repro version 1.

The same seed gives the same bytes but for `seconds`, which stands alone at the end.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from g4diag.scenario import DriveOutcome, DriveReading, Outcome, Reading

SCHEMA = "g4diag.repro"
VERSION = 1


def document(outcome: Outcome) -> dict[str, Any]:
    """Plain values. `index_kernels`: how the kernels that compute ids ran, "torch" or "triton, interpreted".
    `readings`: one row a state and path, the table's columns. `verdict`: the lines of the first bad read. `cell`: how
    the bug stands in what is installed, null if the states run do not say. `left_out`: states that do not apply here.
    `seconds`: wall time by state."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "scenario": outcome.scenario,
        "seed": outcome.seed,
        "geometry": outcome.geometry,
        "index_kernels": outcome.index_kernels,
        "versions": outcome.versions,
        "faults_reintroduced": list(outcome.faults),
        "readings": list(map(row, outcome.readings)),
        "verdict": list(outcome.lines),
        "dump": None if outcome.dump is None else str(outcome.dump),
        "score": asdict(outcome.score),
        **standing(outcome),
        "as_expected": outcome.as_expected,
        "exit_code": 0 if outcome.as_expected else 1,
        "seconds": {name: round(value, 3) for name, value in outcome.seconds.items()},
    }


def row(reading: Reading | DriveReading) -> dict[str, Any]:
    """A state as plain values."""
    return asdict(reading) | {
        "traps": list(reading.traps),
        "evidence": dict(reading.evidence),
        "as_expected": reading.as_expected,
    }


def standing(outcome: Outcome | DriveOutcome) -> dict[str, Any]:
    """How the bug stands in what is installed, and what was left out."""
    cell = outcome.cell
    return {"cell": None if cell is None else asdict(cell), "left_out": list(map(asdict, outcome.left_out))}


def render(outcome: Outcome) -> str:
    """The document as indented text."""
    return json.dumps(document(outcome), indent=2, ensure_ascii=True, allow_nan=False)
