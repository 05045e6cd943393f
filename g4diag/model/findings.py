"""What is said of views: violations, the incident a dump holds, and the findings of analyzers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from g4diag.model.allocator_calls import Allocation, Release
from g4diag.model.evidence import KernelFault, LogEvent
from g4diag.model.log import Event
from g4diag.model.nouns import (
    Grade,
    IndexMapping,
    IndexSpace,
    LayerKind,
    PoolView,
    Severity,
)
from g4diag.model.views import (
    VIEWS,
    AttentionRead,
    FreeList,
    KVSlots,
    KVWrite,
    MappingUpdate,
    PoolSwap,
    QueryRows,
    RequestView,
    View,
)


@dataclass(frozen=True)
class Violation:
    """One broken claim, where, and by how much. Fields that do not apply are None.

    bound: legal ids are `low` .. bound-1. count: offending entries in this view, of `checked`.
    value_space: the space `value` is in as far as known; expected_space: the space it should be in.
    """

    trap: str
    severity: Severity
    summary: str
    worker: str = ""
    phase: str = ""
    path: str = ""
    backend: str = ""
    step: int | None = None
    layer_id: int | None = None
    layer_kind: LayerKind | None = None
    window_left: int | None = None
    row: int | None = None
    rid: str | None = None
    column: int | None = None
    value: int | None = None
    expected: int | None = None
    low: int = 0
    bound: int | None = None
    value_space: IndexSpace | None = None
    expected_space: IndexSpace | None = None
    count: int = 0
    checked: int = 0


@dataclass(frozen=True)
class RingRecord:
    """One record of the flight recorder, taken on the host without a sync; -1 and "" are unknown.

    kind: "step", else a mark: "start", "exception", "violation" and the like. time_ns: monotonic clock.
    batch: requests. tokens: new ones of an extend. seq_len_sum, waiting: as the scheduler had them. Pool sizes and
    free slots are tokens. Counted since the start, in full slots: allocs, allocated, refused (calls that found no
    room), frees, freed, swa_freed (slots whose SWA side was freed, apart from or with the full one). marks: so far.
    rids: crc32 of the first rows' request ids.
    """

    seq: int
    time_ns: int
    kind: str
    step: int = -1
    mode: str = ""
    batch: int = -1
    tokens: int = -1
    seq_len_sum: int = -1
    waiting: int = -1
    full_size: int = -1
    full_free: int = -1
    swa_size: int = -1
    swa_free: int = -1
    allocs: int = -1
    allocated: int = -1
    refused: int = -1
    frees: int = -1
    freed: int = -1
    swa_freed: int = -1
    marks: int = -1
    rids: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Incident:
    """What a file holds, whoever wrote it. origin: "g4diag", "fork-page-table", "fork-allocator", "flashinfer-dump",
    "sglang-dump", "cuda-coredump", "server-log" and the like.

    manifest: {"patches": [...], "faults": [...], "traps": [...]} armed when it was written.
    versions: package -> version. context: scenario, state, seed and the like; plain values only.
    notes: statements the reader makes about the file, with how they are known.
    ring: the flight recorder's last records, oldest first. log, faults: what others left of the crash. events: what
    a log tells, typed; `log` holds the same as lines.
    others: views of every kind that has no field of its own here.
    unread: what belongs to it and could not be read, or was left out by its writer; one sentence each.
    """

    origin: str
    reads: tuple[AttentionRead, ...] = ()
    swaps: tuple[PoolSwap, ...] = ()
    allocations: tuple[Allocation, ...] = ()
    releases: tuple[Release, ...] = ()
    free_lists: tuple[FreeList, ...] = ()
    mapping_updates: tuple[MappingUpdate, ...] = ()
    kv_writes: tuple[KVWrite, ...] = ()
    kv_slots: tuple[KVSlots, ...] = ()
    query_rows: tuple[QueryRows, ...] = ()
    pools: tuple[PoolView, ...] = ()
    mapping: IndexMapping | None = None
    requests: tuple[RequestView, ...] = ()
    violations: tuple[Violation, ...] = ()
    manifest: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    notes: tuple[tuple[Grade, str], ...] = ()
    ring: tuple[RingRecord, ...] = ()
    log: tuple[LogEvent, ...] = ()
    faults: tuple[KernelFault, ...] = ()
    events: tuple[Event, ...] = ()
    others: tuple[View, ...] = ()
    unread: tuple[str, ...] = ()

    def views(self) -> tuple[View, ...]:
        """Every view a trap can judge."""
        return tuple(view for name in (*FIELDS, "others") for view in getattr(self, name))


# The kinds with a field of their own, in the order in which they are judged.
FIELDS = tuple(kind.KIND for kind in VIEWS if kind.KIND in Incident.__annotations__)


def by_field(views: Iterable[View]) -> dict[str, tuple[View, ...]]:
    """Incident's fields that hold these views, each in the order given; fields that would be empty are left out."""
    found: dict[str, list[View]] = {}
    for view in views:
        found.setdefault(view.KIND if view.KIND in FIELDS else "others", []).append(view)
    return {name: tuple(those) for name, those in found.items()}


@dataclass(frozen=True)
class Finding:
    """One answer of an analyzer. subject: short key ("verdict", "nearest-meaning", "pools", ...).
    text: one sentence. grade: how it is known. data: plain values, for --json and for whoever checks the sentence:
    every number in the text is one of them. kind: which kind of sentence it is, so that it can be recomputed; "" for
    one that only repeats what a file says. premises: what a derived one rests on."""

    subject: str
    text: str
    grade: Grade
    is_defect: bool = False
    data: dict[str, Any] = field(default_factory=dict)
    kind: str = ""
    premises: tuple[str, ...] = ()
