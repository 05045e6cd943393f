"""One line's prefixes taken off, as many as there are, and which process wrote it."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from g4diag.discover import contributions
from g4diag.logs.contract import Line, Mark, Prefix

TEXT, WHOLE = 4000, 1 << 16
_ROUNDS, _WRITERS = 8, 4096
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[@-Z\\-_])")
# How a record goes on below its first line, where an outer logger has put a stamp on each.
_GOES_ON = re.compile(
    r"\s|$|(?:\w{1,80}\.){0,8}\w{0,80}(?:Error|Exception|Exit|Interrupt)\b|Traceback|During handling|The above"
    r"|Search for|CUDA kernel|For debugging|Compile with|\[\w{1,24}\] {1,8}total=|(?:full|swa|mamba|self)[_.]"
)
_RANKS = ("DP", "PP", "TP", "CP", "EP")


@functools.cache
def prefixes() -> tuple[Prefix, ...]:
    """Those that open a line, then the rest, by name."""
    found = [row.value for row in contributions("g4diag.logs.prefixes", "PREFIX") if isinstance(row.value, Prefix)]
    return tuple(sorted(found, key=lambda prefix: (not prefix.first, prefix.name)))


def unwrap(text: str) -> tuple[list[Mark], str]:
    """(marks, outermost first, what is left)."""
    marks: list[Mark] = []
    for _ in range(_ROUNDS):
        for prefix in _that_start_with(_class(text[:1])):
            if (taken := prefix.take(text)) is not None:
                marks.append(taken[0])
                text = taken[1]
                break
        else:
            break
    return marks, text


def _class(sign: str) -> str:
    """As `Prefix.starts` has it."""
    return "0" if "0" <= sign <= "9" else "a" if sign.isalpha() else sign


@functools.lru_cache(maxsize=256)
def _that_start_with(sign: str) -> tuple[Prefix, ...]:
    return tuple(prefix for prefix in prefixes() if sign and sign in prefix.starts)


@dataclass
class _Writer:
    """What is known of one process so far."""

    rank: str = ""
    tp: int | None = None
    time: float | None = None
    clock: str = ""
    held: str = ""


@dataclass
class Unwrapper:
    """Lines of one log in order. A line without a stamp is of the record before it: of the process that wrote it. open:
    processes whose traceback goes on. stamps: with how many times the last record of each writer began."""

    last: dict[str, str] = field(default_factory=dict)
    writers: dict[str, _Writer] = field(default_factory=dict)
    clocks: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    stamps: dict[str, int] = field(default_factory=dict)

    def lines(self, raw: bytes, number: int) -> list[Line]:
        """Those in one line of the file: none where it goes on, several where one holds a whole message."""
        text = raw.decode(errors="replace").rstrip("\r\n")
        if "\x1b" in text:
            text = _ESCAPES.sub("", text)
        if "\r" in text:  # a progress bar writes over itself
            text = next((part for part in reversed(text.split("\r")) if part.strip()), "")
        marks, left = unwrap(text)
        outer, ranks, begins = _outer(marks), _ranks(marks), any(mark.begins for mark in marks)
        stamps = sum(mark.begins and mark.time is not None for mark in marks)
        goes_on = not ranks and stamps < self.stamps.get(outer, 0) and _GOES_ON.match(left) is not None
        if begins and not goes_on:
            self.stamps[outer] = stamps
        begins = begins and not goes_on
        writer = self._writer(outer, ranks, begins)
        state = self.writers[writer]
        self._settle(state, marks, ranks, goes_on)
        left, state.held = state.held + left, ""
        if any(mark.partial for mark in marks) and len(left) < WHOLE:
            state.held = left
            return []
        pid = next((mark.pid for mark in reversed(marks) if mark.pid is not None), None)
        told = (writer, state.rank, state.tp, pid, state.time, state.clock)
        return [
            Line(number, part[:TEXT], part[:WHOLE], *told, begins and n == 0, bool(marks))
            for n, part in enumerate(left.split("\n"))
        ]

    def _writer(self, outer: str, ranks: dict[str, int], begins: bool) -> str:
        """The key of who wrote it. Several open tracebacks of one stream cannot be told apart: the last writer's."""
        if begins or ranks:
            writer = f"{outer} {_shown(ranks)}".strip()
        else:
            mine = [key for key in self.open if key == outer or key.startswith(f"{outer} ") or not outer]
            writer = mine[0] if len(mine) == 1 else self.last.get(outer, outer)
        if begins or ranks or outer not in self.last:
            self.last[outer] = writer
        if writer not in self.writers:
            if len(self.writers) >= _WRITERS:
                writer = next(iter(self.writers))
            self.writers.setdefault(writer, _Writer())
        return writer

    def _settle(self, state: _Writer, marks: Sequence[Mark], ranks: dict[str, int], goes_on: bool) -> None:
        """Its rank and time. Where a record goes on with an outer stamp alone, its own time stays."""
        if ranks:
            state.rank, state.tp = _shown(ranks), ranks.get("TP")
        timed = [mark for mark in marks if mark.time is not None]
        if not timed:
            if state.time is None and (before := self.writers.get("")):
                state.time, state.clock = before.time, before.clock
            return
        # A zone leaves nothing to guess; else the process's own stamp, which is the innermost with a date.
        order = ("zone", "local", "yearless", "boot", "day")
        best = min(reversed(timed), key=lambda mark: order.index(mark.clock))
        if goes_on and best.clock != "zone":
            return
        state.time, state.clock = best.time, best.clock
        self.clocks.add(best.clock)


def _outer(marks: Sequence[Mark]) -> str:
    return " ".join(dict.fromkeys(mark.process for mark in marks if mark.process))


def _ranks(marks: Sequence[Mark]) -> dict[str, int]:
    found: dict[str, int] = {}
    for mark in marks:
        found.update(mark.ranks)
    return found


def _shown(ranks: dict[str, int]) -> str:
    """As "DP3 TP3 EP3"."""
    order = sorted(ranks, key=lambda name: (_RANKS.index(name) if name in _RANKS else len(_RANKS), name))
    return " ".join(f"{name}{ranks[name]}" for name in order)
