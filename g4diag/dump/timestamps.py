"""Times as logs write them. None says its zone, so they are taken as UTC; `timeline` moves them where a ring tells."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_LINE = re.compile(r"^\[?(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?")


def begins_with_time(line: str) -> bool:
    """Whether a line begins with a date and a time, in brackets or not: much cheaper than what time it is."""
    return _LINE.match(line) is not None


def line_time(line: str) -> float | None:
    """Seconds since the epoch of a line that begins with a date, in brackets or not."""
    found = _LINE.match(line)
    if not found:
        return None
    day, moment, fraction = found.groups()
    return _seconds(f"{day} {moment}.{fraction or 0}", "%Y-%m-%d %H:%M:%S.%f")


def compact_time(text: str) -> float | None:
    """The same of "20261122_104018_123", as the kernel-API loggers name their directories."""
    return _seconds(text, "%Y%m%d_%H%M%S_%f")


def _seconds(text: str, form: str) -> float | None:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None
