"""An inspection as JSON: schema g4diag.inspect version 3 (docs/inspect-json.md). ASCII, harmless on a terminal too."""

from __future__ import annotations

import json
from typing import Any

from g4diag.model import Inspection

SCHEMA = "g4diag.inspect"
VERSION = 3


def document(inspection: Inspection) -> dict[str, Any]:
    """Plain values. `verdict` is the first line of the text report; `findings` are every analyzer's, in order."""
    parts = [_part(part) for part in inspection.parts]
    return {"schema": SCHEMA, "version": VERSION, **_part(inspection), "parts": parts}


def _part(inspection: Inspection) -> dict[str, Any]:
    return {
        "file": inspection.name,
        "origin": inspection.origin,
        "outcome": str(inspection.outcome),
        "exit_code": inspection.outcome.exit_code,
        "verdict": next((finding.text for finding in inspection.of("verdict")), None),
        "findings": [
            {
                "subject": finding.subject,
                "text": finding.text,
                "grade": str(finding.grade),
                "is_defect": finding.is_defect,
                "data": finding.data,
                "kind": finding.kind,
                "premises": list(finding.premises),
            }
            for finding in inspection.findings
        ],
    }


def render(inspection: Inspection) -> str:
    """The document as indented text with sorted keys: the same inspection gives the same bytes."""
    return json.dumps(document(inspection), indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False)
