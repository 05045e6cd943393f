"""A server that is not installed here as JSON, schema g4diag.doctor-release version 1."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from g4diag.model.release_check import ReleaseCheck

SCHEMA, VERSION = "g4diag.doctor-release", 1


def document(found: ReleaseCheck) -> dict[str, Any]:
    """Plain values. `looked_at_here`: that nothing of this machine's stack was."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "looked_at_here": False,
        "exit_code": found.exit_code,
        **asdict(found),
    }


def render(found: ReleaseCheck) -> str:
    """Indented, keys sorted."""
    return json.dumps(document(found), indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False)
