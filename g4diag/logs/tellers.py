"""The two simplest kinds of Teller: one event a line, and equal ones folded."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from g4diag.logs.contract import Line, Teller, Where
from g4diag.model.log import Event

E = TypeVar("E", bound=Event)
_FOLDS, _SECONDS, _LINES = 256, 60.0, 5000


def each(read: Callable[[Line, dict[str, Any]], Event | None]) -> Callable[[Where], Teller]:
    """Tellers for which one line is one event, or none. read: the line and an Event's fields of place and time."""
    return lambda where: _Each(read, where)


class Quiet:
    """What most tellers do at the end, and between their lines: nothing."""

    def end(self) -> Iterable[Event]:
        """Nothing is open."""
        return ()

    def is_open(self) -> bool:
        """No line is wanted that shows no sign."""
        return False


class _Each(Quiet):
    def __init__(self, read: Callable[[Line, dict[str, Any]], Event | None], where: Where) -> None:
        self._read, self._where = read, where

    def take(self, line: Line) -> Iterable[Event]:
        found = self._read(line, self._where(line))
        return () if found is None else (found,)


def folded(
    read: Callable[[Line, dict[str, Any]], E | None],
    key: Callable[[E], Hashable],
    merge: Callable[[E, E], E],
) -> Callable[[Where], Teller]:
    """Tellers that tell equal events once, at the log's end, as long as not more than a minute lies between two of
    them. merge: the first and a later one."""
    return lambda where: _Folded(read, key, merge, where)


class _Folded(Quiet):
    def __init__(self, read: Any, key: Any, merge: Any, where: Where) -> None:
        self._read, self._key, self._merge, self._where = read, key, merge, where
        self._held: dict[Hashable, tuple[Any, Any]] = {}

    def take(self, line: Line) -> Iterable[Event]:
        new = self._read(line, self._where(line))
        if new is None:
            return
        key = self._key(new)
        if key in self._held and _near(self._held[key][1], new):
            self._held[key] = self._merge(self._held[key][0], new), new
            return
        if key in self._held or len(self._held) >= _FOLDS:
            yield self._held.pop(key if key in self._held else next(iter(self._held)))[0]
        self._held[key] = new, new

    def end(self) -> Iterable[Event]:
        return [held for held, _ in self._held.values()]


def _near(before: Event, after: Event) -> bool:
    if before.time is not None and after.time is not None and before.clock == after.clock:
        return abs(after.time - before.time) <= _SECONDS
    return after.line - before.line <= _LINES


def counted(first: Any, later: Any) -> Any:
    """The first one, with both counts."""
    return replace(first, count=first.count + later.count)
