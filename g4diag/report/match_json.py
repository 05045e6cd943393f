"""Signature and known issues as JSON, schema g4diag.match version 1."""

from __future__ import annotations

import json
from typing import Any

from g4diag.model import Inspection, Outcome

SCHEMA, VERSION = "g4diag.match", 1


def exit_code(inspection: Inspection) -> int:
    """0 matched, 1 a defect that matches none, 4 nothing to match."""
    if inspection.of("known_issues"):
        return 0
    return 1 if inspection.of("signature") or inspection.outcome is Outcome.DEFECT else 4


def document(inspection: Inspection) -> dict[str, Any]:
    """Plain values. `signature` is null where nothing is broken; `issues` are the best matches first."""
    named = next(iter(inspection.of("signature")), None)
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "file": inspection.name,
        "exit_code": exit_code(inspection),
        "signature": named.text if named else None,
        "other_signatures": named.data["others"] if named else [],
        "issues": [{"grade": str(finding.grade), **finding.data} for finding in inspection.of("known_issues")],
    }


def render(inspection: Inspection) -> str:
    """Indented, keys sorted: the same inspection gives the same bytes."""
    return json.dumps(document(inspection), indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False)
