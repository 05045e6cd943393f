"""The kernel's ring: `[142873.110021] message`, seconds since the machine started, or `dmesg -T`'s date."""

from __future__ import annotations

import re

from g4diag.logs import times
from g4diag.logs.contract import Mark, Prefix

_BOOT = re.compile(r"\[ {0,8}(\d{1,10}\.\d{6})\] ?")
_DATE = re.compile(r"\[[A-Z][a-z]{2} ([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4})\] ?")


def take(text: str) -> tuple[Mark, str] | None:
    """Written by no process."""
    if found := _DATE.match(text):
        at = times.syslog(found[1])
        return (Mark(*at, process="kernel"), text[found.end() :]) if at else None
    found = _BOOT.match(text)
    return (Mark(float(found[1]), "boot", process="kernel"), text[found.end() :]) if found else None


PREFIX = Prefix("dmesg", take, "[")
