"""Signature and known issues as JSON, schema g4diag.match version 1."""

from __future__ import annotations

import json
from typing import Any

from g4diag.model import Grade, Inspection

SCHEMA, VERSION = "g4diag.match", 1


def exit_code(inspection: Inspection) -> int:
    """0 matched, 1 a defect that matches none, 4 nothing to match, or a mere possibility. Of several files, 1 if any of
    them is 1, and 4 in place of 0 where one could not be read."""
    codes = {_code(part) for part in (inspection.parts or (inspection,))}
    if 1 in codes:
        return 1
    return 4 if unread(inspection) else min(codes)


def unread(inspection: Inspection) -> list[str]:
    """Files of several that could not be read, and why, one line each."""
    return [finding.text for finding in inspection.of("provenance") if finding.data.get("unread")]


def faults(inspection: Inspection) -> list[str]:
    """The faults that were put back on purpose when it was recorded."""
    return [str(name) for finding in inspection.of("provenance") for name in finding.data.get("faults", ())]


def _code(inspection: Inspection) -> int:
    if any(finding.grade is not Grade.GUESS for finding in inspection.of("known_issues")):
        return 0
    named = inspection.of("signature") or inspection.outcome.is_defect
    return 1 if named and not inspection.of("known_issues") else 4


def document(inspection: Inspection) -> dict[str, Any]:
    """Plain values. `signature` is null where nothing is broken; `issues` are the best matches first.
    Of several files these are of the one that leads; `parts` holds each, and is empty for one."""
    named = next(iter(inspection.of("signature")), None)
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "file": inspection.name,
        "exit_code": exit_code(inspection),
        "signature": named.text if named else None,
        "other_signatures": named.data["others"] if named else [],
        "faults": faults(inspection),
        "unread": unread(inspection),
        "next": next((finding.text for finding in inspection.of("next_command")), None),
        "parts": [document(part) for part in inspection.parts],
        "issues": [{"grade": str(finding.grade), **finding.data} for finding in inspection.of("known_issues")],
    }


def render(inspection: Inspection) -> str:
    """Indented, keys sorted: the same inspection gives the same bytes."""
    return json.dumps(document(inspection), indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False)
