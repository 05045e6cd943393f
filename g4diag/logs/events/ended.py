"""Processes that end: by a signal, with a status, killed by the host; and lines that only follow another's death."""

from __future__ import annotations

import re
import signal
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import each
from g4diag.model.log import Ended, Event

_FORMS: tuple[tuple[re.Pattern[str], dict[str, Any]], ...] = (
    (
        re.compile(r"Fatal Python error: (?P<word>Aborted|Segmentation fault|Bus error|Illegal instruction|Floating)"),
        {},
    ),
    (re.compile(r"Fatal Python error"), {}),
    (
        re.compile(
            r"(?:\S{0,60}: line \d{1,6}: +\d{1,9} )?(?P<word>Segmentation fault|Aborted|Killed|Bus error)(?: .{0,80})?$"
        ),
        {},
    ),
    (re.compile(r"terminate called (?:after throwing|without an active|recursively)"), {"signal": 6}),
    (re.compile(r"!!! Segfault encountered !!!|\*\*\* SIG(?P<name>[A-Z]{3,5})"), {}),
    (re.compile(r".{0,80}\bcrashed with exit code (?P<code>-?\d{1,5})"), {}),
    (
        re.compile(r".{0,80}\bunexpectedly failed with exitcode=(?P<code>-?\d{1,5})\.?(?: pid=(?P<pid>\d{1,9}))?"),
        {"teardown": True},
    ),
    (re.compile(r".{0,80}\bterminated with (?:signal )?(?P<code>-\d{1,3})\b"), {}),
    (re.compile(r".{0,120}\bMain process exited, code=killed, status=(?P<code>\d{1,3})/"), {"killed": True}),
    (re.compile(r".{0,120}\bMain process exited, code=dumped, status=(?P<code>\d{1,3})/"), {"killed": True}),
    (re.compile(r"(?:SIGQUIT received|Received sigquit)\b"), {"teardown": True}),
    (re.compile(r"SIGTERM received|Received SIGTERM|Gracefully exiting"), {"asked": True}),
    (re.compile(r"Out of memory: Killed process (?P<pid>\d{1,9})"), {"signal": 9}),
)
_WORDS = {
    **{"Aborted": signal.SIGABRT, "Segmentation fault": signal.SIGSEGV, "Killed": signal.SIGKILL},
    **{"Bus error": signal.SIGBUS, "Illegal instruction": signal.SIGILL, "Floating": signal.SIGFPE},
}


def read(line: Line, place: dict[str, Any]) -> Event | None:
    """One line of such a form, from its beginning."""
    text = line.text[:400].strip()
    for form, more in _FORMS:
        if found := form.match(text):
            return _ended(found.groupdict(), more, place)
    return None


def _ended(said: dict[str, str | None], more: dict[str, Any], place: dict[str, Any]) -> Ended:
    number, code = int(more.get("signal", 0)), int(said["code"] or 0) if said.get("code") else None
    if word := said.get("word"):
        number = int(_WORDS[word])
    elif name := said.get("name"):
        number = int(getattr(signal, f"SIG{name}", 0))
    elif code is not None and more.get("killed"):
        number, code = code, None
    elif code is not None and -65 < code < 0:
        number = -code
    pid = int(said["pid"] or 0) if said.get("pid") else None
    return Ended(
        **place, signal=number, code=code, pid=pid, asked=bool(more.get("asked")), teardown=bool(more.get("teardown"))
    )


EVENT = EventKind(
    "ended",
    (
        "Fatal Python error",
        "Segmentation fault",
        "Segfault encountered",
        "Aborted",
        "Killed",
        "Bus error",
        "terminate called",
        "exit ?code",
        "terminated with",
        "Main process exited",
        "sigquit",
        "SIGQUIT",
        "SIGTERM",
        "Gracefully exiting",
        r"\*\*\* SIG",
    ),
    each(read),
)
