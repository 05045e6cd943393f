"""Times as logs write them: (seconds since the epoch, clock), see `model.log.Event`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

Time = tuple[float, str]
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(?: ?(Z|[+-]\d\d:?\d\d)(?![\d:]))?")
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: n for n, name in enumerate(_NAMES, start=1)}
_SYSLOG = re.compile(r"([A-Z][a-z]{2}) +(\d{1,2}) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?: (\d{4}))?")
_MONTH_DAY = re.compile(r"(\d\d)-?(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?")
_CLOCK = re.compile(r"(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?")
YEARLESS = 1970


def iso(text: str) -> Time | None:
    """Of "2026-06-01T01:02:03.5-07:00" and the like, with or without zone; text may go on behind it."""
    found = _ISO.match(text)
    if found is None:
        return None
    *numbers, fraction, zone = found.groups()
    seconds = _seconds([int(number) for number in numbers], fraction)
    if seconds is None:
        return None
    return (seconds - _offset(zone), "zone") if zone else (seconds, "local")


def syslog(text: str) -> Time | None:
    """Of "Jun 18 10:22:40", or with the year behind it; text may go on."""
    found = _SYSLOG.match(text)
    if found is None or found[1] not in _MONTHS:
        return None
    year = int(found[7]) if found[7] else YEARLESS
    seconds = _seconds([year, _MONTHS[found[1]], *map(int, found.groups()[1:5])], found[6])
    return None if seconds is None else (seconds, "local" if found[7] else "yearless")


def month_day(text: str) -> Time | None:
    """Of "09-07 11:02:10" and "0907 11:02:10.123"."""
    found = _MONTH_DAY.match(text)
    if found is None:
        return None
    seconds = _seconds([YEARLESS, *map(int, found.groups()[:5])], found[6])
    return None if seconds is None else (seconds, "yearless")


def of_day(text: str) -> Time | None:
    """Of "10:22:40": of the first day of 1970."""
    found = _CLOCK.match(text)
    if found is None:
        return None
    seconds = _seconds([YEARLESS, 1, 1, *map(int, found.groups()[:3])], found[4])
    return None if seconds is None else (seconds, "day")


def in_year_of(yearless: float, dated: float) -> float:
    """A time of 1970 moved into the year that puts it nearest to another one."""
    said = datetime.fromtimestamp(yearless, UTC)
    year = datetime.fromtimestamp(dated, UTC).year
    found = []
    for guess in (year - 1, year, year + 1):
        try:
            found.append(said.replace(year=guess).timestamp())
        except ValueError:
            continue
    return min(found, key=lambda time: abs(time - dated), default=yearless)


def _seconds(numbers: Sequence[int], fraction: str | None) -> float | None:
    """numbers: year, month, day, hour, minute, second."""
    year, month, day, hour, minute, second = numbers
    try:
        whole = datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return whole + (int(fraction) / 10 ** len(fraction) if fraction else 0.0)


def _offset(zone: str) -> float:
    if zone == "Z":
        return 0.0
    digits = zone[1:].replace(":", "")
    return (-1 if zone[0] == "-" else 1) * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)
