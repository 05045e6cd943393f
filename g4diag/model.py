"""The nouns everyone here speaks: index spaces, views taken from live objects, and what traps say of them.

Array names carry their shape: B request rows, P page-table columns, M mapping entries, N slots or ids.
Views hold indices, lengths and sizes, never KV bytes and never prompt text. All arrays are numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer[Any]]
BoolArray = npt.NDArray[np.bool_]


class IndexSpace(StrEnum):
    """What an integer index counts. Two spaces are never compared without a mapping."""

    FULL_PAGE = "full page"
    SWA_PAGE = "SWA page"
    FULL_SLOT = "full slot"
    SWA_SLOT = "SWA slot"
    REQUEST_ROW = "request row"


class LayerKind(StrEnum):
    """Which attention a layer has, and so which pool its K/V lives in."""

    FULL = "full"
    SWA = "swa"


class Severity(StrEnum):
    """ERROR: wrong memory is read. WARNING: wrong, but nothing has diverged yet."""

    ERROR = "error"
    WARNING = "warning"


class Grade(StrEnum):
    """How a statement is known."""

    MEASURED = "measured"
    DERIVED = "derived"
    GUESS = "guess"


@dataclass(frozen=True)
class PoolView:
    """One KV pool.

    name: "full", "swa" or "draft-own". space: the page space of its ids. page_size: tokens a page.
    num_pages: pages in the buffer with the dummy page 0, so readable ids are 0 .. num_pages-1 and
    allocatable ids 1 .. num_pages-1. free_pages_N: int64 page ids on the free list, or None if not taken.
    """

    name: str
    space: IndexSpace
    page_size: int
    num_pages: int
    free_pages_N: IntArray | None = None

    @property
    def use(self) -> float | None:
        """Share of allocatable pages not on the free list, 0..1; None when the free list was not taken."""
        if self.free_pages_N is None or self.num_pages < 2:
            return None
        return 1.0 - len(self.free_pages_N) / (self.num_pages - 1)


@dataclass(frozen=True)
class IndexMapping:
    """`full_to_swa_index_mapping` as it was. full_to_swa_M: int64, full slot -> SWA slot, 0 = unmapped,
    last entry is the -1 sentinel (sglang SWATokenToKVPoolAllocator)."""

    full_to_swa_M: IntArray
    page_size: int

    def swa_pages(self, full_pages: IntArray) -> IntArray:
        """SWA page of each full page id (any shape); ids outside the mapping become -1."""
        slots = full_pages.astype(np.int64) * self.page_size
        inside = (slots >= 0) & (slots < len(self.full_to_swa_M) - 1)
        mapped = self.full_to_swa_M[np.where(inside, slots, 0)] // self.page_size
        return np.where(inside, mapped, -1)

    def full_pages_of(self, swa_page: int) -> list[int]:
        """Full pages that map to this SWA page (more than one is a defect in itself)."""
        slots = np.flatnonzero(self.full_to_swa_M[:-1] // self.page_size == swa_page)
        mapped = slots[self.full_to_swa_M[slots] > 0]
        return sorted({int(slot) // self.page_size for slot in mapped})


@dataclass(frozen=True)
class RequestView:
    """A live request. row: its request row. full_pages_N: int64 page ids in full space, position order.
    seq_len: tokens committed."""

    rid: str
    row: int
    seq_len: int
    full_pages_N: IntArray


@dataclass(frozen=True)
class AttentionRead:
    """One layer handed one page table for one forward (`_get_layer_page_table`).

    worker: "target" or "draft". phase: "decode", "target_verify", "draft_extend", "draft_decode" or "extend".
    path: "eager" or "graph". window_left: keys left of the query that a sliding layer sees, -1 for none.
    pool: the pool this layer's own k_cache comes from. table_space: the space the backend built the handed
    table in, by tensor identity, None if it could not be told. page_table_BP: int32. seq_lens_B: int32, keys
    a row, this step's queries included. q_len: queries a row. full_page_table_BP: int64, the same rows and columns
    in full page space, read from req_to_token, None if not taken. req_rows_B: int64 request rows. mapping: None
    where no pool of this server has one. is_clamped: the handed tensor is a changed copy of the backend's own table.
    """

    step: int
    worker: str
    phase: str
    path: str
    backend: str
    layer_id: int
    layer_kind: LayerKind
    window_left: int
    pool: PoolView
    table_space: IndexSpace | None
    page_table_BP: IntArray
    seq_lens_B: IntArray
    q_len: int = 1
    rids: tuple[str, ...] = ()
    req_rows_B: IntArray | None = None
    full_page_table_BP: IntArray | None = None
    mapping: IndexMapping | None = None
    is_clamped: bool = False

    @property
    def expected_space(self) -> IndexSpace:
        """The space the layer's own pool is addressed in."""
        return self.pool.space

    def live_BP(self) -> BoolArray:
        """bool[B, P]: entries the kernel may dereference: pages holding a key in the window of any query."""
        last_B = (self.seq_lens_B.astype(np.int64) - 1) // self.pool.page_size
        first_B = np.zeros_like(last_B)
        if self.window_left >= 0:
            oldest = self.seq_lens_B.astype(np.int64) - self.q_len - self.window_left
            first_B = np.maximum(oldest, 0) // self.pool.page_size
        column_P = np.arange(self.page_table_BP.shape[1])
        live: BoolArray = (column_P >= first_B[:, None]) & (column_P <= last_B[:, None])
        return live

    def expected_BP(self) -> IntArray | None:
        """int64[B, P]: the page ids this layer should have been handed, None if they cannot be told."""
        if self.full_page_table_BP is None:
            return None
        if self.expected_space is IndexSpace.FULL_PAGE:
            return self.full_page_table_BP.astype(np.int64)
        if self.mapping is None:
            return None
        return self.mapping.swa_pages(self.full_page_table_BP)


@dataclass(frozen=True)
class PoolSwap:
    """An attention backend at the edge of a KV pool swap.

    site: "frozen_kv_target_view", "target_kv_pool_view", "FrozenKVMTPCudaGraphRunner.__init__" or "constructor".
    moment: "enter" (inside, swapped) or "exit" (restored). Pools are labels such as "target:SWAKVPool".
    read_pool: the pool the backend will read. swa_state: the pool its SWA tables are translated for, or None.
    frozen_kv: the draft reads the target's KV. before: (read_pool, swa_state) before entry, on exit only.
    graph_swa_tables: whether the graph buffers include SWA page tables; None where no graph state exists.
    """

    site: str
    moment: str
    backend: str
    read_pool: str
    read_pool_is_swa: bool
    swa_state: str | None
    frozen_kv: bool
    before: tuple[str, str | None] | None = None
    graph_swa_tables: bool | None = None


@dataclass(frozen=True)
class Allocation:
    """Ids an allocator returned. call: "alloc", "alloc_extend" or "alloc_decode". pool: bounds come from it.
    slots_N: int64 in `pool`'s slot space."""

    call: str
    pool: PoolView
    slots_N: IntArray


View = AttentionRead | PoolSwap | Allocation


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
class Incident:
    """What a dump holds, whoever wrote it. origin: "g4diag", "seed-page-table" or "seed-allocator".

    manifest: {"patches": [...], "faults": [...], "traps": [...]} armed when it was written.
    versions: package -> version. context: scenario, state, seed and the like; plain values only.
    notes: statements the reader makes about the file, with how they are known.
    """

    origin: str
    reads: tuple[AttentionRead, ...] = ()
    swaps: tuple[PoolSwap, ...] = ()
    allocations: tuple[Allocation, ...] = ()
    pools: tuple[PoolView, ...] = ()
    mapping: IndexMapping | None = None
    requests: tuple[RequestView, ...] = ()
    violations: tuple[Violation, ...] = ()
    manifest: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    notes: tuple[tuple[Grade, str], ...] = ()

    def views(self) -> tuple[View, ...]:
        """Every view a trap can judge."""
        return (*self.swaps, *self.allocations, *self.reads)


@dataclass(frozen=True)
class Finding:
    """One answer of an analyzer. subject: short key ("verdict", "nearest-meaning", "pools", ...).
    text: one sentence. grade: how it is known. data: plain values for --json."""

    subject: str
    text: str
    grade: Grade
    is_defect: bool = False
    data: dict[str, Any] = field(default_factory=dict)
