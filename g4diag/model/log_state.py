"""What a log tells of its server beside crashes: its arguments, choices, load and pools. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from g4diag.model.log_base import Event


@dataclass(frozen=True)
class PoolSum:
    """One pool in an audit, in its own slots. available, evictable, protected, held, uncached: as printed, 0 where not.
    total: what they should add up to. leaked: the ids that the audit names."""

    pool: str
    total: int
    available: int
    evictable: int = 0
    protected: int = 0
    held: int = 0
    uncached: int = 0
    leaked: tuple[int, ...] = ()

    @property
    def over(self) -> int:
        """Slots too many; below 0: too few; 0: balanced."""
        return self.available + self.evictable + self.protected + self.held + self.uncached - self.total


@dataclass(frozen=True, kw_only=True)
class PoolAudit(Event):
    """A pool-leak audit of the scheduler. raised: it ended the process; else it warned."""

    KIND: ClassVar[str] = "pool-leak"
    pools: tuple[PoolSum, ...] = ()
    raised: bool = True


@dataclass(frozen=True)
class Batch:
    """One decode line. Uses are shares, 0..1; -1: not told. requests: running. queued: waiting."""

    line: int
    time: float | None
    requests: int = -1
    full_use: float = -1.0
    swa_use: float = -1.0
    accept: float = -1.0
    rate: float = -1.0
    queued: int = -1
    tokens_per_second: float = -1.0


@dataclass(frozen=True, kw_only=True)
class Batches(Event):
    """The decode lines of one process, in order, thinned out evenly where there are very many. seen: lines that the
    samples stand for, -1 where they were not all counted."""

    KIND: ClassVar[str] = "batches"
    samples: tuple[Batch, ...] = ()
    seen: int = 0


@dataclass(frozen=True, kw_only=True)
class ServerArgs(Event):
    """What the server says that it was started with. values: plain ones, by sglang's own names; no key or secret."""

    KIND: ClassVar[str] = "server-args"
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Chosen(Event):
    """One thing that the server chose or found, such as a backend. key: see `logs.facts`. value: as printed."""

    KIND: ClassVar[str] = "chosen"
    key: str = ""
    value: str = ""


@dataclass(frozen=True, kw_only=True)
class Armed(Event):
    """A manifest of ours: what is armed in one process. refused: it is not, and why."""

    KIND: ClassVar[str] = "armed"
    manifest: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pid: int | None = None
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class TrapSaid(Event):
    """A violation that a trap of ours logged; its text is read where violations are."""

    KIND: ClassVar[str] = "violation"


@dataclass(frozen=True, kw_only=True)
class KernelCall(Event):
    """A call that a kernel-API logger wrote down."""

    KIND: ClassVar[str] = "kernel-call"
