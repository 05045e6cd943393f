"""Pool-leak audits: what is free, evictable, locked and held must add up to the pool. All forms since 0.4.

Newer: `[full] total=.., available=.., evictable=.., protected=.., session_held=.., uncached=..`, one line a pool.
Older: `full_available_size=.., full_evictable_size=.., self.token_to_kv_pool_allocator.size=..`, `available_size=..,
protected_size=.., self.max_total_num_tokens=..`, and for request rows `available_size=.., total_size=..`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from g4diag.logs.contract import EventKind, Line, Where
from g4diag.model.log import Event, PoolAudit, PoolSum

_MESSAGE = re.compile(
    r"(?:\S{1,300}\.py:\d{1,7}: )?(?:[A-Za-z_.]{1,80}(?:Error|Warning|Exception): )?(?:\w{1,40} )?"
    r"\w{0,60}(?:pool|allocator)\w{0,40} ?(?:mem(?:ory)? )?leak detected",
    re.I,
)
_NEW = re.compile(r"\[(\w{1,24})\] {1,8}total=(\d{1,15}), (.{0,300}?)(?=\[\w{1,24}\] {1,8}total=|$)")
_PAIR = re.compile(r"([A-Za-z_][\w.]{0,100}(?:\(\))?) ?= ?(-?\d{1,15})(?![\w.])")
_LEAKED = re.compile(r"leaked_(\w{1,24}?)_(?:pages|slots|ids|indices)=\{([\d, ]{0,4000})\}")
_TERMS = ("available", "evictable", "protected", "held", "uncached")
_CONTINUES = re.compile(
    r"\[\w{1,24}\] {1,8}total=|\w{0,24}_?available_size|self\.|leaked_|\s{0,8}\w{1,40}_size=|(?:full|swa|mamba)_"
)


class _Teller:
    """A message of several lines ends with the next stamp, or with a line that continues none."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._open: dict[str, tuple[dict[str, Any], list[str], bool]] = {}

    def take(self, line: Line) -> Iterable[Event]:
        text = line.text.strip()
        held = self._open.get(line.process)
        if _MESSAGE.match(text) and not text.startswith(("raise ", "assert ", 'f"')):
            yield from self._close(line.process)
            warned = "Warning:" in text[:400] or not re.match(r"(?:[\w.]{1,80})?(?:Error|Exception):", text)
            self._open[line.process] = self._where(line), [text], warned
        elif held is not None and _CONTINUES.match(text) and not line.begins and len(held[1]) < 16:
            held[1].append(text)
        elif held is not None and text and (line.begins or not _CONTINUES.match(text)):
            yield from self._close(line.process)

    def end(self) -> Iterable[Event]:
        for process in list(self._open):
            yield from self._close(process)

    def is_open(self) -> bool:
        return bool(self._open)

    def _close(self, process: str) -> Iterable[Event]:
        if held := self._open.pop(process, None):
            place, lines, warned = held
            if pools := tuple(_sums(lines)):
                yield PoolAudit(**place, pools=pools, raised=not warned)


def _sums(lines: list[str]) -> Iterable[PoolSum]:
    text = " ".join(lines)[:8000]
    leaked = {name: tuple(map(int, re.findall(r"\d{1,15}", ids)))[:64] for name, ids in _LEAKED.findall(text)}
    if new := _NEW.findall(text):
        for pool, total, rest in new:
            yield _sum(pool, int(total), dict(_PAIR.findall(rest)), leaked)
        return
    pairs = _PAIR.findall(text)
    named = {
        name.partition("_")[0] for name, _ in pairs if re.match(r"(?:full|swa|mamba)_(?:available|evictable)", name)
    }
    if named:
        for pool in sorted(named):
            mine = {name: value for name, value in pairs if pool in name or (pool == "full" and _is_full(name))}
            total = next((int(v) for n, v in mine.items() if n.endswith((".size", "total_size", "size_" + pool))), None)
            if total is not None:
                yield _sum(pool, total, mine, leaked)
        return
    is_rows = "req_to_token_pool memory leak" in text or "req_to_token_pool mem" in text
    said = dict(pairs)
    total_names = ("self.max_total_num_tokens", "max_total_num_tokens", "total_size", "self.size", "total")
    total = next((int(said[name]) for name in total_names if name in said), None)
    if total is not None:
        yield _sum("request rows" if is_rows else "full", total, said, leaked)


def _is_full(name: str) -> bool:
    return name in ("self.token_to_kv_pool_allocator.size", "self.token_to_kv_pool_allocator.size_full")


def _sum(pool: str, total: int, said: dict[str, str], leaked: dict[str, tuple[int, ...]]) -> PoolSum:
    """Terms by name; one that is printed twice, as a variable and as a call, counts once."""
    values = {term: next((int(v) for n, v in said.items() if term in n), 0) for term in _TERMS}
    return PoolSum(pool, total, **values, leaked=leaked.get(pool, ()))


EVENT = EventKind(
    "pool_leak",
    (
        "leak detected",
        "Leak Detected",
        r"available(?:_size)?(?:\(\))?=",
        "evictable_size",
        r"total=\d",
    ),
    _Teller,
)
