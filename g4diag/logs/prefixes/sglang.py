"""sglang's own: `[2026-06-01 01:00:00 DP0 TP1 EP2 PP0] message`, where the ranks are those that the server has."""

from __future__ import annotations

import re

from g4diag.logs import times
from g4diag.logs.contract import Mark, Prefix

_HEAD = re.compile(
    r"\[(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)((?: [\w./:=-]{1,40}){0,12})\] ?"
)
_RANK = re.compile(r" ([A-Z_]{2,10}?)(\d{1,5})(?= |$)")


def take(text: str) -> tuple[Mark, str] | None:
    """A record begins with it. The ranks tell the writer."""
    found = _HEAD.match(text)
    at = times.iso(found[1]) if found else None
    if found is None or at is None:
        return None
    return Mark(*at, ranks={name: int(rank) for name, rank in _RANK.findall(found[2])}, begins=True), text[
        found.end() :
    ]


PREFIX = Prefix("sglang", take, "[")
