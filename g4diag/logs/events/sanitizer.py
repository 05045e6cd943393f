"""compute-sanitizer's report: kernel, thread, address, and how far past which allocation; one event a kernel."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from g4diag.logs.contract import EventKind, Line, Where
from g4diag.logs.tellers import Quiet
from g4diag.model.log import Event, KernelSaid

_HEAD = "========="
_TRIPLE = r"\((\d{1,9}), ?(\d{1,9}), ?(\d{1,9})\)"
_ERROR = re.compile(
    r"={9} ((?:Invalid|Misaligned|Uninitialized|Warp|Lane|Race|"
    r"Illegal|Out-of-range|Stack|Barrier|Device|Possible)\b.{0,120})"
)
_ACCESS = re.compile(r"(read|write|atomic) of size (\d{1,6})")
_AT = re.compile(r"={9} {2,16}at (.{1,700}?)(?:\+0x[0-9a-f]{1,12})?(?: in ([\w./-]{1,200}:\d{1,7}))?$")
_BY = re.compile(rf"={{9}} {{2,16}}by thread {_TRIPLE} in block {_TRIPLE}")
_ADDRESS = re.compile(r"={9} {2,16}(?:Access (?:at|to) |Address )(0x[0-9a-f]{1,16})")
_NEAREST = re.compile(
    r"={9} {2,16}and is ([\d,]{1,20}) bytes (after|before|inside) the nearest allocation at "
    r"0x[0-9a-f]{1,16} of size ([\d,]{1,20}) bytes"
)
_HOST = re.compile(r"={9} {2,16}Host Frame: ?(.{1,200})")
_KERNELS = 64


class _Teller(Quiet):
    def __init__(self, where: Where) -> None:
        self._where = where
        self._now: dict[str, Any] = {}
        self._told: dict[tuple[str, str, str], dict[str, Any]] = {}

    def take(self, line: Line) -> Iterable[Event]:
        text = line.text.rstrip()
        if not text.startswith(_HEAD):
            return ()
        if found := _ERROR.match(text):
            self._finish()
            self._now = self._where(line) | {"exception": found[1].strip()}
            if access := _ACCESS.search(found[1]):
                self._now |= {"access": access[1].replace("atomic", "write"), "size": int(access[2])}
        elif self._now:
            self._detail(text)
        return ()

    def _detail(self, text: str) -> None:
        said = self._now
        if found := _AT.match(text):
            said.setdefault("kernel", found[1].strip())
            said.setdefault("place", found[2] or "")
        elif found := _BY.match(text):
            numbers = tuple(int(number) for number in found.groups())
            said.setdefault("thread", numbers[:3])
            said.setdefault("block", numbers[3:])
        elif found := _ADDRESS.match(text):
            said.setdefault("address", found[1])
        elif found := _NEAREST.match(text):
            far, size = int(found[1].replace(",", "")), int(found[3].replace(",", ""))
            said.setdefault({"after": "past", "before": "before", "inside": "past"}[found[2]], far)
            said.setdefault("allocation", size)
        elif found := _HOST.match(text):
            said.setdefault("host", found[1].strip())

    def _finish(self) -> None:
        now, self._now = self._now, {}
        if not now:
            return
        key = now.get("kernel", ""), now["exception"], now.get("place", "")
        if key in self._told:
            self._told[key]["count"] += 1
        elif len(self._told) < _KERNELS:
            self._told[key] = now | {"count": 1}

    def end(self) -> Iterable[Event]:
        self._finish()
        return [KernelSaid(**said, by="compute-sanitizer") for said in self._told.values()]


EVENT = EventKind("sanitizer", ("=========",), _Teller)
