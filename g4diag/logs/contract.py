"""What the contributions of this room declare: PREFIX for a kind of wrapping, EVENT for a kind of event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from g4diag.model.log import Event


@dataclass(frozen=True, slots=True)
class Mark:
    """What a prefix tells. time, clock: as of an Event, None and "" where it tells none. ranks: as {"TP": 1}.
    process: what tells the writer apart. pid: its own. begins: a logger's stamp, with which a record begins; other
    prefixes stand on every line. partial: the line goes on in the next one of the same writer."""

    time: float | None = None
    clock: str = ""
    ranks: Mapping[str, int] = field(default_factory=dict)
    process: str = ""
    pid: int | None = None
    begins: bool = False
    partial: bool = False


@dataclass(frozen=True)
class Prefix:
    """One kind of wrapping around a line. take: (its mark, what is left of the line), None where it is not there.
    Linear in the line's length. starts: the signs that a line with it can begin with: "[", or "0" for a digit, "a" for
    a letter. first: it is looked for before the others."""

    name: str
    take: Callable[[str], tuple[Mark, str] | None]
    starts: str
    first: bool = False


@dataclass(slots=True)
class Line:
    """A line unwrapped. number: from 1. text: without prefixes and colours, cut. whole: the same, cut much later.
    process, rank, tp, time, clock: its own, or of the last line before it that told them. begins: it has a stamp.
    stamp: a prefix stood on it at all."""

    number: int
    text: str
    whole: str
    process: str = ""
    rank: str = ""
    tp: int | None = None
    pid: int | None = None
    time: float | None = None
    clock: str = ""
    begins: bool = False
    prefixed: bool = False


class Teller(Protocol):
    """One log's reader of one kind of event. `where(line)` gives an Event's fields of place and time."""

    def take(self, line: Line) -> Iterable[Event]:
        """Events that this line completes."""

    def end(self) -> Iterable[Event]:
        """What is still open when the log ends."""

    def is_open(self) -> bool:
        """Whether the next lines are wanted, whatever they say."""


Where = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class EventKind:
    """One kind of event. signs: what a line of it may hold, regular expressions without anchors; each begins with a
    plain sign, by which they are looked for together. new: a reader for one log."""

    name: str
    signs: tuple[str, ...]
    new: Callable[[Where], Teller]
