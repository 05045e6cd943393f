"""A fuzzing campaign as JSON, schema g4diag.fuzz version 1."""

from __future__ import annotations

import json
from typing import Any

from g4diag.model.campaign import Campaign, Failure, MachineRun

SCHEMA = "g4diag.fuzz"
VERSION = 1


def document(campaign: Campaign) -> dict[str, Any]:
    """Plain values. `runs`: one row a machine. Times in seconds, `inside_sglang` a share of them, 0..1."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "versions": campaign.versions,
        "database": campaign.database,
        "jobs": campaign.jobs,
        "runs": [_run(run) for run in campaign.runs],
        "exit_code": campaign.exit_code,
    }


def _run(run: MachineRun) -> dict[str, Any]:
    return {
        "machine": run.machine,
        "seed": run.seed,
        "faults_reintroduced": list(run.faults),
        "examples": run.examples,
        "broken_off": run.broken_off,
        "steps": run.steps,
        "seconds": round(run.seconds, 3),
        "steps_per_second": round(run.steps_per_second, 1),
        "inside_sglang": round(run.share, 3),
        "coverage": run.coverage,
        "judged": run.judged,
        "missing": list(run.missing),
        "failure": None if run.failure is None else _failure(run.failure),
        "exit_code": run.exit_code,
    }


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "claim": failure.claim,
        "text": failure.text,
        "also": list(failure.also),
        "found_after_steps": failure.found_after,
        "found_after_seconds": round(failure.seconds, 3),
        "shrink_seconds": round(failure.shrink_seconds, 3),
        "length": failure.length,
        "program": list(failure.program),
        "repeats": failure.repeats,
        "dump": None if failure.dump is None else str(failure.dump),
        "test": None if failure.test is None else str(failure.test),
    }


def render(campaign: Campaign) -> str:
    """The document as indented text."""
    return json.dumps(document(campaign), indent=2, ensure_ascii=True, allow_nan=False)
