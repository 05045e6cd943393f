"""Stacks of live threads: Python's faulthandler (`Fatal Python error`), and py-spy dumps, innermost line first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from g4diag.logs.contract import EventKind, Line, Where
from g4diag.model.log import Event, Frame, Stack

_HANDLER = re.compile(r"(Current thread|Thread) 0x[0-9a-fA-F]{1,16}\b.{0,80}\(most recent call first\):")
_HANDLER_FRAME = re.compile(r'\s*File "([^"]{1,300})", line (\d{1,9}) in (.{1,200})')
_SPY = re.compile(r'Thread (?:0x)?[0-9A-Fa-f]{1,16} \((\w[\w+ ]{0,20})\)(?:: ?"?([^"]{0,80})"?)?')
_SPY_FRAME = re.compile(r"\s{2,12}([\w<>.]{1,120}) \(([^()\s]{1,300}):(\d{1,9})\)")
_MOST = 64


class _Teller:
    def __init__(self, where: Where) -> None:
        self._where = where
        self._open: tuple[str, dict[str, Any]] | None = None
        self._frames: list[Frame] = []

    def take(self, line: Line) -> Iterable[Event]:
        text = line.text
        if found := _HANDLER.match(text):
            yield from self.end()
            self._open = "faulthandler", self._where(line) | {"current": found[1] == "Current thread"}
        elif found := _SPY.match(text):
            yield from self.end()
            self._open = "py-spy", self._where(line) | {"current": "active" in found[1]}
            if found[2] == "MainThread":
                self._open[1]["main"] = True
        elif self._open is not None:
            if (frame := self._frame(line)) is not None:
                if len(self._frames) < _MOST:
                    self._frames.append(frame)
                if frame.function.strip() == "<module>" and self._open[0] == "faulthandler":
                    self._open[1]["main"] = True
            elif not text[:1].isspace():
                yield from self.end()

    def end(self) -> Iterable[Event]:
        held, frames = self._open, tuple(self._frames)
        self._open, self._frames = None, []
        if held is not None and frames:
            yield Stack(**held[1], by=held[0], frames=frames)

    def is_open(self) -> bool:
        return self._open is not None

    def _frame(self, line: Line) -> Frame | None:
        if found := _HANDLER_FRAME.match(line.text):
            return Frame(found[1], int(found[2]), found[3].strip(), at=line.number)
        if found := _SPY_FRAME.match(line.text):
            return Frame(found[2], int(found[3]), found[1], at=line.number)
        return None


EVENT = EventKind("stacks", (r"hread (?:0x)?[0-9A-Fa-f]{1,16}\b.{0,90}(?:most recent call first|\()",), _Teller)
