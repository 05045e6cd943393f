"""cuda-gdb's words of a core dump or a live fault: exception, kernel, block, thread, device."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from g4diag.logs.contract import EventKind, Line, Where
from g4diag.logs.tellers import Quiet
from g4diag.model.log import Event, KernelSaid

_TRIPLE = r"\((\d{1,9}), ?(\d{1,9}), ?(\d{1,9})\)"
_EXCEPTION = re.compile(
    r"CUDA Exception: ?(.{3,80})"
    r"|(?:Thread [\d.]{1,12} .{0,60})?(?:received signal )?(CUDA_EXCEPTION_\d{1,3}), ([^.]{3,60})\.?$"
)
_FOCUS = re.compile(
    rf"\[?(?:Current|Switching) focus (?:set )?to CUDA kernel .{{0,120}}?block {_TRIPLE}, thread {_TRIPLE}"
    r"(?:, device (\d{1,4}))?"
)
_FRAME = re.compile(r"#0\s{1,4}(?:0x[0-9a-f]{1,16} in )?(\S.{0,600}?) ?<<<\(")
_ROW = re.compile(rf"\* {{1,8}}\d{{1,6}} .{{0,160}}?{_TRIPLE} {{1,8}}{_TRIPLE} {{1,8}}([^\s(]{{2,400}})")


class _Teller(Quiet):
    """One fault: what is said between one exception and the next belongs together."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._said: dict[str, Any] = {}

    def take(self, line: Line) -> Iterable[Event]:
        text = line.text.removeprefix("(cuda-gdb) ")
        if found := _EXCEPTION.match(text):
            if self._said.get("exception"):
                yield from self.end()
            self._hold(line)["exception"] = (found[1] or found[3]).strip()
        elif found := _FOCUS.match(text):
            said = self._hold(line)
            numbers = [int(number) for number in found.groups()[:6]]
            said.setdefault("block", tuple(numbers[:3]))
            said.setdefault("thread", tuple(numbers[3:]))
            if found[7]:
                said.setdefault("device", int(found[7]))
        elif found := _FRAME.match(text):
            self._hold(line).setdefault("kernel", found[1].strip())
        elif found := _ROW.match(text):
            self._hold(line).setdefault("kernel", found[7])

    def end(self) -> Iterable[Event]:
        said, self._said = self._said, {}
        if said.get("kernel") or said.get("block"):
            yield KernelSaid(**said, by="cuda-gdb")

    def _hold(self, line: Line) -> dict[str, Any]:
        self._said = self._said or self._where(line)
        return self._said


EVENT = EventKind(
    "cuda_gdb",
    (
        "CUDA Exception:",
        "CUDA_EXCEPTION_",
        "focus (?:set )?to CUDA",
        "#0  ",
        r"\* {1,8}\d",
    ),
    _Teller,
)
