"""A comparison as JSON, schema g4diag.diff version 1."""

from __future__ import annotations

import json
from typing import Any

from g4diag.model import Comparison

SCHEMA, VERSION = "g4diag.diff", 1


def document(comparison: Comparison) -> dict[str, Any]:
    """Plain values. `compared`: entries and ids laid side by side."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "files": [*comparison.names],
        "likeness": str(comparison.likeness),
        "exit_code": comparison.likeness.exit_code,
        "compared": comparison.compared,
        "findings": [
            {"subject": finding.subject, "text": finding.text, "grade": str(finding.grade), "data": finding.data}
            for finding in comparison.findings
        ],
    }


def render(comparison: Comparison) -> str:
    """Indented, keys sorted: the same comparison gives the same bytes."""
    return json.dumps(document(comparison), indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False)
