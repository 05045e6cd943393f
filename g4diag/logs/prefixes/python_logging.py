"""Python's logging and loguru: `2026-06-01 01:00:00,123 - name - ERROR - text`, `... | ERROR | a.b:f:12 - text`."""

from __future__ import annotations

import re

from g4diag.logs import times
from g4diag.logs.contract import Mark, Prefix

_LEVEL = r"(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)"
_HEAD = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)(?: ?[-|:] ?| )"
    rf"(?:(?:[\w.-]{{1,80}}|{_LEVEL} {{0,8}}|[\w.<>-]{{1,60}}:[\w.<>-]{{1,60}}:\d{{1,6}}) ?(?:-|\|) ){{0,4}}"
    rf"(?:\[?{_LEVEL}\]?:? {{1,8}}(?:\[?[\w.-]{{1,60}}:\d{{1,6}}\]? ?-? ?)?)?"
)


def take(text: str) -> tuple[Mark, str] | None:
    """A record begins with it."""
    found = _HEAD.match(text)
    at = times.iso(found[1]) if found else None
    return (Mark(*at, begins=True), text[found.end() :]) if found and at else None


PREFIX = Prefix("python_logging", take, "0")
