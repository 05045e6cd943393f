"""A scenario on real servers as JSON, schema g4diag.repro-server version 1."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from g4diag.scenario import ServerOutcome, ServerReading

SCHEMA = "g4diag.repro-server"
VERSION = 1


def document(outcome: ServerOutcome) -> dict[str, Any]:
    """Plain values. `readings`: one row a state and path. `same_tokens`: [state compared with, requests with equal
    tokens, requests compared]."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "scenario": outcome.scenario,
        "seed": outcome.seed,
        "gpu": dict(outcome.gpu),
        "versions": outcome.versions,
        "engine": dict(outcome.engine),
        "load": dict(outcome.load),
        "faults_reintroduced": list(outcome.faults),
        "readings": [_reading(outcome, reading) for reading in outcome.readings],
        "as_expected": outcome.as_expected,
        "exit_code": outcome.exit_code,
    }


def _reading(outcome: ServerOutcome, reading: ServerReading) -> dict[str, Any]:
    return asdict(reading) | {
        "path": reading.path,
        "request_digests": dict(reading.request_digests),
        "same_tokens": outcome.same_tokens(reading),
        "as_expected": reading.as_expected,
        "inconclusive": reading.inconclusive,
    }


def render(outcome: ServerOutcome) -> str:
    """The document as indented text."""
    return json.dumps(document(outcome), indent=2, ensure_ascii=True, allow_nan=False)
