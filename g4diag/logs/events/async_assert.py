"""Checks of sglang's own that run on the device and fail later (srt/utils/async_probe.py): NaN, ids out of range."""

from __future__ import annotations

import re
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import each
from g4diag.model.log import AsyncAssert, Event

_CHECK = re.compile(
    r"(?:AssertionError: |RuntimeError: |async[ _]assert(?:ion)?[^:]{0,60}: ?)?(?:[\w./-]{1,80}: )?"
    r"(.{0,80}?index (?:<|>=) -?\d{1,20} \((?:negative|out of range)\)?.{0,120}"
    r"|.{0,80}?page-misaligned indices \(page_size=.{0,120}"
    r"|(?:.{0,60}: )?(?:NaN|Inf) detected! .{0,160})"
)


def read(line: Line, place: dict[str, Any]) -> Event | None:
    """One check that failed."""
    found = _CHECK.match(line.text[:1000])
    return AsyncAssert(**place, what=found[1].strip()[:200]) if found else None


EVENT = EventKind(
    "async_assert",
    (
        r"index (?:<|>=) -?\d",
        "page-misaligned indices",
        "NaN detected! ",
        "Inf detected! ",
    ),
    each(read),
)
