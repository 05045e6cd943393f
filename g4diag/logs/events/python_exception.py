"""Python exceptions with their chains: a traceback is kept apart for each process, and the last link killed.

Forms: CPython's own, an exception group's, rich's boxes, a line without a traceback as people quote it. What another
process's error is only quoted in is said to be relayed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from g4diag.logs import quoting
from g4diag.logs.contract import EventKind, Line, Where
from g4diag.logs.devices import classify, is_relayed
from g4diag.model.log import Event, Frame, Link, Raised

_HEADER = re.compile(r"Traceback \(most recent call last\)(?::| ?─*╮?)$")
_FRAME = re.compile(r'\s*File "([^"]{1,300})", line (\d{1,9}), in (.{1,120})')
_RICH = re.compile(r"(\S{1,300}\.py):(\d{1,9}) in (\S{1,120})$")
_NOTICES = (
    ("During handling of the above exception, another exception occurred", "during"),
    ("The above exception was the direct cause of the following exception", "cause"),
)
_NAMED = re.compile(r"((?:[A-Za-z_]\w{0,80}\.){0,8}[A-Za-z_]\w{0,80})(?:: (.*)|:?$)", re.S)
# Without a traceback above it, only what is named as exceptions are.
_BARE = re.compile(r"(?:[a-z_]\w{0,80}\.){0,8}[A-Z]\w{0,80}(?:Error|Exception|Interrupt|Exit)(?::|$)")
_FIRST, _LAST, _LINKS, _PROCESSES = 4, 60, 8, 1024
_NO_EXCEPTION = ("INFO", "WARNING", "DEBUG", "ERROR", "NOTE", "Note", "Compile", "Warning")


@dataclass
class _Open:
    """One process's traceback on its way. place: an event's fields, of the line that ended the last link."""

    lead: str = ""
    how: str = ""
    frames: list[Frame] = field(default_factory=list)
    headed: bool = False
    chain: list[Link] = field(default_factory=list)
    place: dict[str, Any] = field(default_factory=dict)
    raw: str = ""

    @property
    def is_open(self) -> bool:
        return self.headed or bool(self.frames)

    def add(self, frame: Frame) -> None:
        self.frames.append(frame)
        if len(self.frames) > _FIRST + _LAST:
            del self.frames[_FIRST]


class _Teller:
    def __init__(self, where: Where) -> None:
        self._where = where
        self._of: dict[str, _Open] = {}
        self.opened: set[str] = set()

    def take(self, line: Line) -> Iterable[Event]:
        found = list(self._take(line))
        state = self._of.get(line.process)
        (self.opened.add if state is not None and state.is_open else self.opened.discard)(line.process)
        return found

    def _take(self, line: Line) -> Iterator[Event]:
        text = line.text.rstrip()
        state = self._of.get(line.process)
        how = next((how for notice, how in _NOTICES if text.lstrip().startswith(notice)), None)
        if how is not None:
            if state and state.chain:
                state.how = how
        elif header := _HEADER.search(text):
            yield from self._begin(line, text[: header.start()])
        elif frame := _FRAME.match(text) or _RICH.match(text):
            yield from self._frame(line, frame)
        elif state is not None and state.is_open:
            self._inside(state, line, text)
        elif _BARE.match(text):
            yield from self._close(line.process)
            self._name(self._of.setdefault(line.process, _Open()), line, text)

    def end(self) -> Iterator[Event]:
        for process in list(self._of):
            yield from self._close(process)

    def is_open(self) -> bool:
        return bool(self.opened)

    def _begin(self, line: Line, lead: str) -> Iterable[Event]:
        state = self._of.get(line.process)
        if state is None or not (state.chain and state.how) or state.is_open:
            yield from self._close(line.process)
            state = self._of.setdefault(line.process, _Open(lead=lead.strip(" +|─╭:")[-120:]))
        state.headed = True

    def _frame(self, line: Line, found: re.Match[str]) -> Iterable[Event]:
        state = self._of.get(line.process)
        if state is None or (state.chain and not state.how and not state.headed):
            yield from self._close(line.process)
            state = self._of.setdefault(line.process, _Open())
        state.headed = False
        state.add(Frame(found[1], int(found[2]), found[3].strip(), at=line.number))

    def _inside(self, state: _Open, line: Line, text: str) -> None:
        if not text.strip() or set(text.strip()) <= set("^~─╰╯╭╮ "):
            return
        if text[0].isspace():
            if state.frames and not state.frames[-1].code:
                last = state.frames[-1]
                state.frames[-1] = Frame(last.path, last.line, last.function, text.strip()[:120], last.at)
            return
        if (
            (named := _NAMED.match(text))
            and named[1] not in _NO_EXCEPTION
            and not (line.begins and not _BARE.match(text))
        ):
            self._name(state, line, text)

    def _name(self, state: _Open, line: Line, text: str) -> None:
        named = _NAMED.match(text)
        assert named is not None
        place = self._where(line)
        message = quoting.plain(place["text"].partition(": ")[2] if named[2] else "")
        if len(state.chain) >= _LINKS:
            del state.chain[0]
        state.chain.append(Link(named[1], message, tuple(state.frames), state.how))
        state.place, state.raw = place, (named[2] or "")[:2000]
        state.frames, state.how, state.headed = [], "", False

    def _close(self, process: str) -> Iterable[Event]:
        state = self._of.pop(process, None)
        if len(self._of) > _PROCESSES:
            self.opened.discard(oldest := next(iter(self._of)))
            del self._of[oldest]
        if state is None or not (state.chain or state.frames):
            return
        if not state.chain:  # the log ends inside a traceback, or another's lines cut it
            return
        device = classify(state.raw)
        yield Raised(
            **state.place,
            chain=tuple(state.chain),
            lead=quoting.plain(state.lead, 120),
            device=device,
            relayed=device is not None and is_relayed(state.raw),
        )


EVENT = EventKind(
    "python_exception",
    (
        r"Traceback \(most",
        r'File \\{0,3}"',
        r"\.py:\d{1,9} in ",
        "above exception",
        r'Error(?::|\s{0,4}$|\\n|"|\r)',
        r'Exception(?::|\s{0,4}$|\\n|"|\r)',
        r'Interrupt(?::|\s{0,4}$|\\n|"|\r)',
        r'Exit(?::|\s{0,4}$|\\n|"|\r)',
    ),
    _Teller,
)
