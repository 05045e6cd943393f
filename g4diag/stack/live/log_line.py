"""A violation in one line: of the server's log, and of the flight recorder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from g4diag.model import Violation
from g4diag.verdict import past_the_end

BEGIN = "g4diag violation "


def short(violation: Violation, seen: int) -> str:
    """For the flight recorder, which keeps 200 bytes."""
    place = f"{violation.worker} {violation.phase} layer={violation.layer_id} row={violation.row}"
    what = f"column={violation.column} value={violation.value} bound={violation.bound}"
    return f"{violation.trap} {violation.severity} seen={seen} {place} {what}"


def log_line(violation: Violation, seen: int, dump: Path | None) -> str:
    """One greppable line of key=value; no value holds a blank but the last, which is quoted."""
    told = _told(violation, seen, dump)
    said = (f"{key}={str(value).replace(' ', '_')}" for key, value in told.items())
    return f'{BEGIN}{" ".join(said)} summary="{violation.summary}"'


def json_line(violation: Violation, seen: int, dump: Path | None) -> str:
    """The same as one JSON object behind the same two words."""
    told = _told(violation, seen, dump) | {"summary": violation.summary}
    return BEGIN + json.dumps(told, default=str)


LINES: dict[str, Callable[[Violation, int, Path | None], str]] = {"text": log_line, "json": json_line}


def _told(violation: Violation, seen: int, dump: Path | None) -> dict[str, Any]:
    fields = {
        "trap": violation.trap,
        "severity": violation.severity,
        "seen": seen,
        "worker": violation.worker,
        "phase": violation.phase,
        "path": violation.path,
        "backend": violation.backend,
        "layer": violation.layer_id,
        "kind": violation.layer_kind,
        "window": violation.window_left,
        "row": violation.row,
        "request": violation.rid,
        "column": violation.column,
        "value": violation.value,
        "expected": violation.expected,
        "low": violation.low if violation.bound is not None else None,
        "bound": violation.bound,
        "past": past_the_end(violation),
        "space": violation.value_space,
        "wanted_space": violation.expected_space,
        "count": violation.count,
        "checked": violation.checked,
        "dump": dump,
    }
    return {key: value for key, value in fields.items() if value not in (None, "")}
