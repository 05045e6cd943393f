"""A log read whole, in one pass: lines that say nothing are passed over in blocks, the rest go to the kinds of events.

Two thirds of a server's log are decode lines and requests. They are skipped by one expression over a whole block, and
of decode lines samples are taken evenly. Every other line is looked at.
"""

from __future__ import annotations

import functools
import heapq
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import IO, Any

from g4diag.discover import contributions
from g4diag.logs import quoting
from g4diag.logs.contract import EventKind, Line, Teller
from g4diag.logs.opening import Opened, open_log
from g4diag.logs.unwrapping import Unwrapper
from g4diag.model.log import Event

FIRST, LAST = 256, 256
# Of an open traceback: it may end in a name that no sign knows.
_FOLLOWED = 256
_DULL = re.compile(rb"\n(?![^\n]{0,160}?(?:Decode batch|Prefill batch|INFO:     [\d\[]))")
_DECODE = b"Decode batch"
# Decode lines looked at in a block of a MiB: nearly all of a small log's, evenly spread samples of a large one's.
_SAMPLES, _SAMPLES_EARLY, _EARLY_LINES = 64, 512, 20_000
_STAMP = re.compile(rb"\d\d:\d\d:\d\d")


@dataclass(frozen=True)
class Log:
    """What a log tells. events: in the order of the file. counts: of every kind, those that were left out included.
    lines, size: of all that was read. clocks: those of its times. notes: what is odd. unread: why the rest was not
    read, "" if all was. stamped: some line of it has a time."""

    events: tuple[Event, ...]
    counts: dict[str, int]
    lines: int
    size: int
    clocks: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    unread: str = ""
    stamped: bool = False

    @property
    def left_out(self) -> int:
        """Events between the first and the last that were kept."""
        return sum(self.counts.values()) - len(self.events)


@functools.cache
def kinds() -> tuple[EventKind, ...]:
    """Every kind of event, by name."""
    rows = contributions("g4diag.logs.events", "EVENT")
    return tuple(row.value for row in rows if isinstance(row.value, EventKind))


@functools.cache
def signs() -> re.Pattern[bytes]:
    """What any kind of event is told by, over bytes."""
    return re.compile("|".join([*(f"(?:{kind.signs})" for kind in kinds()), quoting.SIGNS]).encode())


def read_log(file: IO[bytes], name: str, mask: Callable[[str], str] = str) -> Log:
    """Of a binary stream, from where it stands. mask: takes secrets out of every text that is kept."""
    reading = _Reading(name, mask)
    opened = Opened()
    for block in open_log(file, opened):
        reading.block(block)
    return reading.log(opened)


def read_lines(lines: Iterable[str], name: str, mask: Callable[[str], str] = str) -> Log:
    """The same of lines that were kept elsewhere, as in a post-mortem."""
    reading = _Reading(name, mask)
    for line in lines:
        reading.block(line.encode(errors="replace") + b"\n")
    return reading.log(Opened())


@dataclass
class _Kept:
    """The first and the last events of one kind."""

    first: list[Event] = field(default_factory=list)
    last: deque[Event] = field(default_factory=lambda: deque(maxlen=LAST))

    def add(self, event: Event) -> None:
        (self.first if len(self.first) < FIRST else self.last).append(event)


class _Reading:
    """One log on its way."""

    def __init__(self, name: str, mask: Callable[[str], str]) -> None:
        self._name, self._mask = name, mask
        self._unwrapper = Unwrapper()
        self._tellers: list[tuple[re.Pattern[str], Teller]] = []
        for kind in kinds():
            self._tellers.append((re.compile(kind.signs), kind.new(self._where)))
        self._kept: dict[str, _Kept] = {}
        self._counts: Counter[str] = Counter()
        self._number = 0
        self._followed = 0
        self._quoting = ""
        self._stamped = False
        self._before = b""

    def block(self, block: bytes) -> None:
        """Whole lines."""
        self._stamped = self._stamped or _STAMP.search(block, 0, 4096) is not None
        block = b"\n" + block
        at, counted, number = 0, 1, self._number + 1
        for start in heapq.merge(self._telling(block), _decodes(block, self._number)):
            if start < at:
                continue
            number += block.count(b"\n", counted, start)
            counted = start
            at = self._one(block, start, number)
            while self._quoting and at < len(block):
                number += block.count(b"\n", counted, at)
                counted = at
                at = self._one(block, at, number)
        self._number += block.count(b"\n", 1) + (not block.endswith(b"\n"))

    def _one(self, block: bytes, start: int, number: int) -> int:
        """Take the line that begins here; where the next one does."""
        end = block.find(b"\n", start)
        end = len(block) if end < 0 else end
        self._take(block[start:end], number)
        return end + 1

    def _telling(self, block: bytes) -> Iterator[int]:
        """Where lines begin that may say something; all but the dull ones while an event is open."""
        find = signs().search
        for found in _DULL.finditer(block):
            start = found.end()
            end = block.find(b"\n", start)
            if self._followed or find(block, start, len(block) if end < 0 else end):
                yield start

    def _take(self, raw: bytes, number: int) -> None:
        for line in self._unwrapper.lines(raw, number):
            if self._is_quoted(line):
                continue
            open_before = self._followed > 0
            for sign, teller in self._tellers:
                if teller.is_open() or sign.search(line.text):
                    self._keep(teller.take(line))
            self._follow(open_before)

    def _follow(self, open_before: bool) -> None:
        """While a teller is open, lines are followed, up to a limit of those that close nothing."""
        if not any(teller.is_open() for _, teller in self._tellers):
            self._followed = 0
        elif not open_before:
            self._followed = _FOLLOWED
        else:
            self._followed = max(self._followed - 1, 0)

    def _is_quoted(self, line: Line) -> bool:
        """Whether a line shows what a user wrote."""
        if self._quoting:
            if not line.prefixed or (line.process == self._quoting and not line.begins):
                return True
            self._quoting = ""
        if not quoting.shows_request(line.text):
            return False
        if quoting.is_unfinished(line.text) and line.text == line.whole:
            self._quoting = line.process or "?"
        return True

    def _where(self, line: Line) -> dict[str, Any]:
        return {
            "line": line.number,
            "file": self._name,
            "time": line.time,
            "clock": line.clock,
            "rank": line.rank,
            "tp": line.tp,
            "process": line.process,
            "text": self._mask(quoting.plain(line.text)),
        }

    def _keep(self, events: Iterable[Event]) -> None:
        for event in events:
            self._counts[event.KIND] += 1
            self._kept.setdefault(event.KIND, _Kept()).add(event)

    def log(self, opened: Opened) -> Log:
        """All of it, when the last block is read."""
        for _, teller in self._tellers:
            self._keep(teller.end())
        events = sorted((e for kept in self._kept.values() for e in (*kept.first, *kept.last)), key=lambda e: e.line)
        if opened.cut:
            opened.notes.append(f"{opened.cut} lines are longer than 64 KiB: the beginning of each was read")
        clocks = frozenset(self._unwrapper.clocks)
        return Log(
            events=tuple(replace(event, file=self._name) for event in events),
            counts=dict(self._counts),
            lines=self._number,
            size=opened.size,
            clocks=clocks,
            notes=tuple(opened.notes),
            unread=opened.unread,
            stamped=self._stamped or bool(clocks),
        )


def _decodes(block: bytes, before: int) -> list[int]:
    """Where the decode lines begin that are looked at, the last of the block among them."""
    most = _SAMPLES_EARLY if before < _EARLY_LINES else _SAMPLES
    step = 1 if block.count(_DECODE) <= most else len(block) // most
    found, at = [], block.find(_DECODE)
    while at >= 0:
        found.append(block.rfind(b"\n", 0, at) + 1)
        at = block.find(_DECODE, at + max(step, len(_DECODE)))
    if found and (last := block.rfind(b"\n", 0, block.rfind(_DECODE)) + 1) != found[-1]:
        found.append(last)
    return found
