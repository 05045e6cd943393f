"""glog and torch's C++ logger: `[E416 13:30:00.000000001 ProcessGroupNCCL.cpp:2057] message`, month and day in one."""

from __future__ import annotations

import re

from g4diag.logs import times
from g4diag.logs.contract import Mark, Prefix

_HEAD = re.compile(r"\[?[EWIF](\d{3,4}) (\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?: +(\d{1,9}))? +[\w./-]{1,80}:\d{1,6}\] ?")


def take(text: str) -> tuple[Mark, str] | None:
    """Without a year."""
    found = _HEAD.match(text)
    at = times.month_day(f"{found[1]:0>4} {found[2]}") if found else None
    return (Mark(*at, begins=True), text[found.end() :]) if found and at else None


PREFIX = Prefix("glog", take, "[a")
