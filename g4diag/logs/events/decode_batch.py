"""Decode lines: requests, use of each pool and accept length over time, one event for each process."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from g4diag.logs.contract import EventKind, Line, Where
from g4diag.logs.tellers import Quiet
from g4diag.model.log import Batch, Batches, Event

_LINE = re.compile(r"Decode batch(?: \[\d{1,12}\])?[,.]")
_FIELD = re.compile(r"(?:^|, )([#\w()/. -]{3,40}): (-?\d{1,12}(?:\.\d{1,9})?)(?=,|\s*$)")
_NAMES = {
    "#running-req": "requests",
    "token usage": "full_use",
    "full token usage": "full_use",
    "swa token usage": "swa_use",
    "accept len": "accept",
    "accept rate": "rate",
    "#queue-req": "queued",
    "gen throughput (token/s)": "tokens_per_second",
}
_WHOLE = ("requests", "queued")
_MOST, _PROCESSES = 4096, 512


class _Teller(Quiet):
    """Where a process has more lines than are kept, every other one goes, and from then on fewer are taken."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._first: dict[str, dict[str, Any]] = {}
        self._kept: dict[str, list[Batch]] = {}
        self._every: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def take(self, line: Line) -> Iterable[Event]:
        if not _LINE.match(line.text):
            return ()
        process = line.process
        if process not in self._first:
            if len(self._first) >= _PROCESSES:
                return ()
            self._first[process], self._kept[process] = self._where(line), []
            self._every[process], self._seen[process] = 1, 0
        self._seen[process] += 1
        if self._seen[process] % self._every[process]:
            return ()
        kept = self._kept[process]
        kept.append(_batch(line))
        if len(kept) >= _MOST:
            del kept[::2]
            self._every[process] *= 2
        return ()

    def end(self) -> Iterable[Event]:
        for process, place in self._first.items():
            yield Batches(**place, samples=tuple(self._kept[process]), seen=self._seen[process])


def _batch(line: Line) -> Batch:
    said = {_NAMES[name.strip()]: value for name, value in _FIELD.findall(line.text[:1000]) if name.strip() in _NAMES}
    numbers: dict[str, Any] = {key: int(float(v)) if key in _WHOLE else float(v) for key, v in said.items()}
    return Batch(line.number, line.time, **numbers)


EVENT = EventKind("decode_batch", ("Decode batch",), _Teller)
