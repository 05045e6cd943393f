"""Time-outs: NCCL's collectives, and sglang's own watchdog of a scheduler that makes no step."""

from __future__ import annotations

import re
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import each
from g4diag.model.log import Event, TimedOut

_NCCL = re.compile(
    r"(?:\[[^\]]{0,160}\] ?){0,4}Watchdog caught collective operation timeout: "
    r"WorkNCCL\((.{0,300}?)\)(?: ran for (\d{1,12}) milliseconds)?"
)
_OPERATION = re.compile(r"OpType=(\w{1,40})")
_LIMIT = re.compile(r"Timeout\(ms\)=(\d{1,12})")
_SCHEDULER = re.compile(r"(?:\S{0,60} )?[Ww]atchdog time-?out(?: \(.{0,80}?=(\d{1,8}(?:\.\d{1,6})?).{0,40}?\))?")


def read(line: Line, place: dict[str, Any]) -> Event | None:
    """One time-out."""
    text = line.text[:1500]
    if found := _NCCL.match(text):
        operation, limit = _OPERATION.search(found[1]), _LIMIT.search(text)
        seconds = int(limit[1]) / 1000 if limit else None
        return TimedOut(**place, of="nccl", operation=operation[1] if operation else "", seconds=seconds)
    if found := _SCHEDULER.match(text):
        return TimedOut(**place, of="scheduler", seconds=float(found[1]) if found[1] else None)
    return None


EVENT = EventKind("watchdog", ("atchdog (?:caught|time)",), each(read))
