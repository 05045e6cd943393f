"""vLLM's own logger: `ERROR 09-07 11:02:14 [multiproc_executor.py:1007] message`, on every line of a record."""

from __future__ import annotations

import re

from g4diag.logs import times
from g4diag.logs.contract import Mark, Prefix

_HEAD = re.compile(
    r"(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) (\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?) \[[\w./-]{1,80}:\d{1,6}\] ?"
)


def take(text: str) -> tuple[Mark, str] | None:
    """Without a year. It stands on continuation lines too, so that it begins no record."""
    found = _HEAD.match(text)
    at = times.month_day(found[1]) if found else None
    return (Mark(*at), text[found.end() :]) if found and at else None


PREFIX = Prefix("vllm_level", take, "a")
