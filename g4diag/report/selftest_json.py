"""A selftest as JSON, schema g4diag.selftest version 1."""

from __future__ import annotations

import json
from typing import Any

from g4diag.model.doctor import Selftest, SelftestRow

SCHEMA = "g4diag.selftest"
VERSION = 1


def document(selftest: Selftest) -> dict[str, Any]:
    """Plain values. `rows`: one a trap. `checked`: views it judged before the break, and with it."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "versions": selftest.versions,
        "rows": [_row(row) for row in selftest.rows],
        "exit_code": selftest.exit_code,
    }


def _row(row: SelftestRow) -> dict[str, Any]:
    healthy, broken = row.checked
    return {
        "trap": row.trap,
        "how": row.how,
        "fired": list(row.fired),
        "companions": list(row.companions),
        "fired_healthy": list(row.early),
        "checked": {"healthy": healthy, "broken": broken},
        "seconds": round(row.seconds, 3),
        "problem": row.problem,
    }


def render(selftest: Selftest) -> str:
    """The document as indented text."""
    return json.dumps(document(selftest), indent=2, ensure_ascii=True, allow_nan=False)
