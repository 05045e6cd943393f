"""A time without a date: `[10:22:40 TP0] message`, as old releases and `%H:%M:%S` formats write it."""

from __future__ import annotations

import re

from g4diag.logs import times
from g4diag.logs.contract import Mark, Prefix

_HEAD = re.compile(
    r"\[(\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)((?: [A-Z]{2}\d{1,5}){0,8})\] ?|(\d\d:\d\d:\d\d(?:[.,]\d{1,9})?) "
)
_RANK = re.compile(r" ([A-Z]{2})(\d{1,5})(?= |$)")


def take(text: str) -> tuple[Mark, str] | None:
    """Of one unknown day."""
    found = _HEAD.match(text)
    at = times.of_day(found[1] or found[3]) if found else None
    if found is None or at is None:
        return None
    ranks = {name: int(rank) for name, rank in _RANK.findall(found[2] or "")}
    return Mark(*at, ranks=ranks, begins=True), text[found.end() :]


PREFIX = Prefix("clock", take, "[0")
