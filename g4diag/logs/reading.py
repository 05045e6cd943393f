"""A log read whole, in one pass: lines that say nothing are passed over in blocks, the rest go to the kinds of events.

Two thirds of a server's log are decode lines and requests. They are skipped by one expression over a whole block, and
of decode lines samples are taken evenly. Every other line is looked at.
"""

from __future__ import annotations

import functools
import heapq
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

from g4diag.discover import contributions
from g4diag.logs import quoting, times
from g4diag.logs.contract import EventKind, Line, Teller
from g4diag.logs.opening import Opened, open_log
from g4diag.logs.tellers import Quiet
from g4diag.logs.unwrapping import Unwrapper
from g4diag.model.log import Event

FIRST, LAST = 256, 256
# Of an open traceback: it may end in a name that no sign knows.
_FOLLOWED = 256
# An empty line is dull too, or many of them would cost more than what they are.
_DULL = re.compile(rb"\n(?!\r?\n|\r?\Z|[^\n]{0,160}?(?:Decode batch|Prefill batch|INFO:     [\d\[]))")
_SHAPES = 4096
_DIGITS = str.maketrans("123456789", "000000000")
_BYTE_DIGITS = bytes.maketrans(b"123456789", b"000000000")
# Of lines that differ in their digits alone so many are read, more of them inside a traceback.
_ENOUGH, _ENOUGH_OPEN, _SHAPE = 4000, 20_000, 512
_DECODE = b"Decode batch"
# Decode lines looked at in a block of a MiB: nearly all of a small log's, evenly spread samples of a large one's.
_SAMPLES, _SAMPLES_EARLY, _EARLY_LINES = 16, 512, 20_000
_STAMP = re.compile(rb"(?:\A|\n)[^\n]{0,60}?\d\d:\d\d:\d\d")


@dataclass(frozen=True)
class Log:
    """What a log tells. events: in the order of the file. counts: of every kind, those that were left out included.
    lines, size: of all that was read. clocks: those of its times. notes: what is odd. unread: why the rest was not
    read, "" if all was. passed: lines that were counted and not read, see `notes`. stamped: some line has a time."""

    events: tuple[Event, ...]
    counts: dict[str, int]
    lines: int
    size: int
    clocks: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    unread: str = ""
    passed: int = 0
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
    found: dict[str, list[str]] = {}
    for sign in (*(sign for kind in kinds() for sign in kind.signs), *quoting.SIGNS):
        first = sign[:2] if sign[0] == "\\" else sign[0]
        found.setdefault(first, []).append(sign[len(first) :])
    # By first sign, one branch each: so `re` passes quickly over what begins none.
    return re.compile("|".join(f"{first}(?:{'|'.join(rest)})" for first, rest in found.items()).encode())


@functools.cache
def text_signs() -> tuple[re.Pattern[str], ...]:
    """Those of each kind, over text, in the order of `kinds`."""
    return tuple(re.compile("|".join(kind.signs)) for kind in kinds())


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
        self._tellers = [kind.new(self._where) for kind in kinds()]
        self._may_open = [teller for teller in self._tellers if not isinstance(teller, Quiet)]
        for teller in self._may_open:
            if isinstance(opened := getattr(teller, "opened", None), set):
                self._unwrapper.open = opened
        self._seen: dict[bytes, int] = {}
        self._passed = self._unsampled = 0
        self._asked: dict[str, tuple[Teller, ...]] = {}
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
        decodes = _decodes(block, self._number)
        self._unsampled += block.count(_DECODE) - len(decodes)
        for start in heapq.merge(self._telling(block), decodes):
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
        raw = block[start:end]
        if self._is_news(raw):
            self._take(raw, number)
        return end + 1

    def _is_news(self, raw: bytes) -> bool:
        """Whether lines that differ from this one in digits alone were not read thousands of times already."""
        shape = raw[:_SHAPE].translate(_BYTE_DIGITS)
        if len(self._seen) >= _SHAPES:
            self._seen.clear()
        count = self._seen[shape] = self._seen.get(shape, 0) + 1
        if count <= (_ENOUGH_OPEN if self._followed or self._quoting else _ENOUGH) or _DECODE in raw:
            return True
        self._passed += 1
        return False

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
            asked = self._asked_by(line.text)
            for teller in asked:
                self._keep(teller.take(line))
            for teller in self._may_open:
                if teller not in asked and teller.is_open():
                    self._keep(teller.take(line))
            self._follow(open_before)

    def _asked_by(self, text: str) -> tuple[Teller, ...]:
        """Tellers whose signs a line holds. Lines that differ in their digits alone are asked about once."""
        shape = text.translate(_DIGITS)
        found = self._asked.get(shape)
        if found is None:
            if len(self._asked) >= _SHAPES:
                self._asked.clear()
            pairs = zip(text_signs(), self._tellers, strict=True)
            found = self._asked[shape] = tuple(teller for sign, teller in pairs if sign.search(text))
        return found

    def _follow(self, open_before: bool) -> None:
        """While a teller is open, lines are followed, up to a limit of those that close nothing."""
        if not any(teller.is_open() for teller in self._may_open):
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
        for teller in self._tellers:
            self._keep(teller.end())
        events = sorted((e for kept in self._kept.values() for e in (*kept.first, *kept.last)), key=lambda e: e.line)
        if self._passed:
            opened.notes.append(
                f"{self._passed} lines that say the same as {_ENOUGH} before them, digits aside, were counted"
            )
        if self._unsampled > 0:
            opened.notes.append(f"{self._unsampled} decode lines lie between those that were sampled")
        if opened.cut:
            opened.notes.append(f"{opened.cut} lines are longer than 64 KiB: the beginning of each was read")
        clocks = frozenset(self._unwrapper.clocks)
        return Log(
            events=tuple(_dated(events)),
            counts=dict(self._counts),
            lines=self._number,
            size=opened.size,
            clocks=clocks,
            notes=tuple(opened.notes),
            unread=opened.unread,
            passed=self._passed + max(self._unsampled, 0),
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


def _dated(events: Sequence[Event]) -> Iterator[Event]:
    """Times without a year get that of the others, where the log has one."""
    dated = next((e.time for e in events if e.time is not None and e.clock in ("zone", "local")), None)
    for event in events:
        if dated is not None and event.clock == "yearless" and event.time is not None:
            event = replace(event, time=times.in_year_of(event.time, dated), clock="local")
        yield event
