"""journalctl and syslog: `Jun 18 10:22:40 host unit[4121]: message`, short-iso and short-precise too."""

from __future__ import annotations

import re

from g4diag.logs import times
from g4diag.logs.contract import Mark, Prefix

_HEAD = re.compile(
    r"([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})?"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d{1,9})?[+-]\d\d:?\d\d) "
    r"([\w.-]{1,64}) ([\w@./:-]{1,64})(?:\[(\d{1,9})\])?: ?"
)


def take(text: str) -> tuple[Mark, str] | None:
    """One writer for each unit and pid. The kernel's lines are written by none."""
    found = _HEAD.match(text)
    if found is None or (at := times.syslog(found[1]) or times.iso(found[1])) is None:
        return None
    unit, pid = found[3], int(found[4]) if found[4] else None
    process = "kernel" if unit == "kernel" else f"{unit}[{pid}]" if pid is not None else unit
    return Mark(*at, process=process, pid=pid), text[found.end() :]


PREFIX = Prefix("journald", take, "0a", first=True)
