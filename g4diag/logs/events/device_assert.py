"""Device-side assertions, one event a place with the count of its threads."""

from __future__ import annotations

import re
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import counted, folded
from g4diag.model.log import DeviceAsserts

_TRIPLE = r"\[(\d{1,9}), ?(\d{1,9}), ?(\d{1,9})\]"
_ASSERT = re.compile(
    rf"(?:\S{{1,300}}/)?([\w.-]{{1,120}}):(\d{{1,7}}):? ?(.{{0,300}}?)(?::|,)? block: {_TRIPLE}, thread: {_TRIPLE} "
    r"Assertion `(.{1,400}?)'? failed"
)


def read(line: Line, place: dict[str, Any]) -> DeviceAsserts | None:
    """Of one thread."""
    found = _ASSERT.match(line.text)
    if found is None:
        return None
    block = int(found[4]), int(found[5]), int(found[6])
    thread = int(found[7]), int(found[8]), int(found[9])
    where, function, claim = f"{found[1]}:{found[2]}", found[3].strip(" :"), found[10].strip("`'")
    return DeviceAsserts(**place, place=where, function=function[:120], claim=claim, block=block, thread=thread)


EVENT = EventKind(
    "device_assert",
    ("Assertion `",),
    folded(read, lambda event: (event.process, event.place, event.claim), counted),
)
