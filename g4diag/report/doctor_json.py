"""A checkup as JSON, schema g4diag.doctor version 1."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from g4diag.model.doctor import Checkup

SCHEMA = "g4diag.doctor"
VERSION = 1


def document(checkup: Checkup) -> dict[str, Any]:
    """Plain values. `problems`: what makes it unhealthy. `hazards`: of the judged command line, `judged` or not."""
    found = asdict(checkup)
    for row, gpu in zip(found["gpus"], checkup.gpus, strict=True):
        row["arch"] = gpu.arch
    return {
        "schema": SCHEMA,
        "version": VERSION,
        **found,
        "faults": [row.name for row in checkup.patches if row.kind == "fault"],
        "problems": list(checkup.problems),
        "exit_code": checkup.exit_code,
    }


def render(checkup: Checkup) -> str:
    """The document as indented text with sorted keys."""
    return json.dumps(document(checkup), indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False)
