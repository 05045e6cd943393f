"""A level alone: uvicorn's `ERROR:    message`, `logging.basicConfig`'s `ERROR:name:message`."""

from __future__ import annotations

import re

from g4diag.logs.contract import Mark, Prefix

_HEAD = re.compile(r"(?:DEBUG|INFO|WARNING|ERROR|CRITICAL|FATAL):(?: {1,12}|[\w.]{1,60}:)")


def take(text: str) -> tuple[Mark, str] | None:
    """It tells nothing but that a record begins."""
    found = _HEAD.match(text)
    return (Mark(begins=True), text[found.end() :]) if found else None


PREFIX = Prefix("level", take, "a")
