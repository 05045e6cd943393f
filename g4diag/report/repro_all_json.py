"""The scored table of all scenarios as JSON, schema g4diag.repro-all version 1."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from g4diag.scenario import Board, Row

SCHEMA = "g4diag.repro-all"
VERSION = 1


def document(board: Board) -> dict[str, Any]:
    """Plain values. `scenarios`: one row each; `score`: [right, of] of each kind, null without a run; `cell`: how the
    bug stands here, null where no run said; `left_out`: states that do not apply here."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "versions": board.versions,
        "scenarios": [_row(row) for row in board.rows],
        "exit_code": board.exit_code,
        "seconds": round(board.seconds, 1),
    }


def _row(row: Row) -> dict[str, Any]:
    return asdict(row) | {"seconds": round(row.seconds, 1)}


def render(board: Board) -> str:
    """The document as indented text."""
    return json.dumps(document(board), indent=2, ensure_ascii=True, allow_nan=False)
