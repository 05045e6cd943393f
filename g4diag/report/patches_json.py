"""The patch series as JSON: schema g4diag.patches version 1, and g4diag.patches.verify version 1."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from g4diag.model.doctor import PatchRow, SkippedRow, VerifyRow

SCHEMA, VERIFY_SCHEMA = "g4diag.patches", "g4diag.patches.verify"
VERSION = 1


def document(rows: Sequence[PatchRow], sglang: str | None, exit_code: int) -> dict[str, Any]:
    """Plain values: `patches` one a file, `faults` the names of those that put a bug back."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "sglang": sglang,
        "patches": [asdict(row) | {"needs": list(row.needs)} for row in rows],
        "faults": [row.name for row in rows if row.kind == "fault"],
        "exit_code": exit_code,
    }


def verify_document(
    rows: Sequence[VerifyRow], skipped: Sequence[SkippedRow], sglang: str | None, exit_code: int
) -> dict[str, Any]:
    """Plain values: `rows` one a patch, the last one, `all`, every available cure together; `skipped` the others."""
    return {
        "schema": VERIFY_SCHEMA,
        "version": VERSION,
        "sglang": sglang,
        "rows": [asdict(row) | {"changed": list(row.changed), "verified": row.verified} for row in rows],
        "skipped": [asdict(row) for row in skipped],
        "exit_code": exit_code,
    }


def render(found: dict[str, Any]) -> str:
    """The document as indented text with sorted keys."""
    return json.dumps(found, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False)
