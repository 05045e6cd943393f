"""Views: what probes take from live objects and traps judge.

A new kind of view is a class here, which joins `View`, and its record in `dump/schema.py`. KIND names it in a dump;
CHECKED says what a trap counts in it, for a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

from g4diag.model.allocator_calls import Allocation, Release
from g4diag.model.nouns import (
    BoolArray,
    IndexMapping,
    IndexSpace,
    IntArray,
    LayerKind,
    PoolView,
    RowOwners,
    Windows,
)
from g4diag.model.once import once
from g4diag.model.prefix_match import PrefixMatch


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
    """One layer handed one page table, or flat slots, for one forward.

    worker: "target" or "draft". phase: "decode", "target_verify", "draft_extend", "draft_decode" or "extend".
    path: "eager" or "graph". window_left: keys left of the query that a sliding layer sees, -1 for none.
    pool: the pool this layer's own k_cache comes from. table_space: the space the backend built the handed
    table in, by tensor identity, None if it could not be told. page_table_BP: int32. seq_lens_B: int32, keys
    a row, this step's queries included. q_len: queries a row. full_page_table_BP: int64, the same rows and columns
    in full page space, read from req_to_token, None if not taken. req_rows_B: int64 request rows. mapping: None
    where no pool of this server has one. is_clamped: the handed tensor is a changed copy of the backend's own table.
    batch_rows: rows of the batch itself, padding left out. batch_lens_B: int64, keys a row that the batch asks for,
    this step's queries included, told from its own lengths and not from the metadata. None if not taken.
    Flat slots are a table with pages of one token, in a slot space. first_B: int64, the column's position that entry 0
    of each row stands for, where what was handed starts at the window and not at the first key; None: 0 for all.
    Entries before it were not handed, and columns count from it.
    What was written down before, apart from what the table was made of; None where nobody did:
    handed_out_BP: int64, the pages of an SWA pool that were handed out with those of full_page_table_BP, 0: none.
    owner_BP: int64, the full page that the SWA page which the mapping has there was handed out with, 0: none; None also
    where the two agree. row_owners: whose request rows these are. windows: the model's own. backend_page_size,
    allocator_page_size: tokens a page, of whoever made the table and of whoever hands out its pages.
    """

    KIND: ClassVar[str] = "reads"
    CHECKED: ClassVar[str] = "live table entries of this read"

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
    batch_rows: int | None = None
    batch_lens_B: IntArray | None = None
    first_B: IntArray | None = None
    handed_out_BP: IntArray | None = None
    owner_BP: IntArray | None = None
    row_owners: RowOwners | None = None
    windows: Windows | None = None
    backend_page_size: int | None = None
    allocator_page_size: int | None = None

    @property
    def expected_space(self) -> IndexSpace:
        """The space the layer's own pool is addressed in."""
        return self.pool.space

    def live_BP(self) -> BoolArray:
        """bool[B, P]: entries the kernel may dereference: pages holding a key in the window of any query. Worked out
        once, and read-only."""
        return self._live_BP

    @once
    def _live_BP(self) -> BoolArray:
        import numpy as np

        lens_B1 = self.seq_lens_B.astype(np.int64)[:, None]
        page_BP = np.arange(self.page_table_BP.shape[1])
        if self.first_B is not None:
            page_BP = self.starts_B()[:, None] + page_BP
        live: BoolArray = page_BP <= (lens_B1 - 1) // self.pool.page_size
        if self.window_left >= 0:
            oldest_B1 = np.maximum(lens_B1 - (self.q_len + self.window_left), 0)
            live &= page_BP >= oldest_B1 // self.pool.page_size
        live.setflags(write=False)
        return live

    def starts_B(self) -> IntArray:
        """int64[B]: how many of a row's pages come before its first column."""
        import numpy as np

        return np.zeros(len(self.seq_lens_B), np.int64) if self.first_B is None else self.first_B.astype(np.int64)

    def expected_BP(self) -> IntArray | None:
        """int64[B, P]: the page ids this layer should have been handed, None if they cannot be told. Worked out once,
        and read-only."""
        return self._expected_BP

    @once
    def _expected_BP(self) -> IntArray | None:
        import numpy as np

        if self.full_page_table_BP is None or (self.expected_space.is_swa and self.mapping is None):
            return None
        if self.expected_space.is_swa:
            assert self.mapping is not None
            expected_BP = self.mapping.swa_pages(self.full_page_table_BP)
        else:
            expected_BP = self.full_page_table_BP.astype(np.int64)
        expected_BP.setflags(write=False)
        return expected_BP


@dataclass(frozen=True)
class PoolSwap:
    """An attention backend at the edge of a KV pool swap.

    site: "frozen_kv_target_view", "target_kv_pool_view", "constructor", or the graph runner's __init__ or
    capture_one_batch_size with its class before it. backend: its class, below a hybrid wrapper "wrapper>child".
    moment: "enter" (inside, swapped) or "exit" (restored). Pools are labels such as "target:SWAKVPool".
    read_pool: the pool the backend will read. swa_state: the pool its SWA tables are translated for, or None.
    frozen_kv: the draft reads the target's KV. before: (read_pool, swa_state) before entry, on exit only.
    graph_swa_tables: whether the graph buffers include SWA page tables; None where no graph state exists.
    wanted_pool: the pool this site is there to have read; None where any will do.
    """

    KIND: ClassVar[str] = "swaps"

    site: str
    moment: str
    backend: str
    read_pool: str
    read_pool_is_swa: bool
    swa_state: str | None
    frozen_kv: bool
    before: tuple[str, str | None] | None = None
    graph_swa_tables: bool | None = None
    wanted_pool: str | None = None


@dataclass(frozen=True)
class FreeList:
    """An allocator's free list, in pool.free_pages_N, and the pages that are live by our own book."""

    KIND: ClassVar[str] = "free_lists"

    pool: PoolView
    live_pages_N: IntArray


@dataclass(frozen=True)
class MappingUpdate:
    """The full-to-SWA mapping right after a call that had to change it.

    call: "alloc", "alloc_extend", "alloc_decode", "alloc_extend_swa_tail", "free", "free_swa", "free_swa_segment" or
    "free_group_end", of the slots that were mapped inside the group.
    full_slots_N: int64 full slots of the call. swa_slots_N: what they should map to: the SWA slots handed out with
    them, 0 when freed. mapped_N: what they do map to."""

    KIND: ClassVar[str] = "mapping_updates"

    call: str
    full_slots_N: IntArray
    swa_slots_N: IntArray
    mapped_N: IntArray


@dataclass(frozen=True)
class KVWrite:
    """K/V written while a draft forward reads a frozen pool. inside: the view it happened in. pool: its label.
    tokens: rows written."""

    KIND: ClassVar[str] = "kv_writes"

    inside: str
    pool: str
    layer_id: int | None
    tokens: int


@dataclass(frozen=True)
class KVSlots:
    """Where one layer's new K/V is written: the slots handed to the pool's write, or to a kernel that goes round it.

    worker, phase, path, backend: as in AttentionRead, "" where no TRTLLMHAAttnBackend is at work. pool: the layer's.
    slots_space: told by the tensor's identity: FULL_SLOT, the batch's own slots; None: another tensor. tokens: rows.
    slots_N: int64 [N] as handed; full_slots_N: the batch's own; both None where taking them would wait for the device.
    mapping: of an SWA pool, None with them. handed_out_N: int64 [N], the SWA slots that were handed out with
    full_slots_N, 0: none; None where nobody wrote that down, and for a pool without a mapping."""

    KIND: ClassVar[str] = "kv_slots"
    CHECKED: ClassVar[str] = "slots of this write"

    worker: str
    phase: str
    path: str
    backend: str
    layer_id: int
    layer_kind: LayerKind | None
    pool: PoolView
    slots_space: IndexSpace | None
    tokens: int
    slots_N: IntArray | None = None
    full_slots_N: IntArray | None = None
    mapping: IndexMapping | None = None
    handed_out_N: IntArray | None = None

    @property
    def expected_space(self) -> IndexSpace:
        """The space the layer's own pool is written in."""
        return self.pool.slot_space

    def expected_N(self) -> IntArray | None:
        """int64[N]: the slots of this batch in that space, None if they cannot be told."""
        if self.full_slots_N is None or self.expected_space is IndexSpace.FULL_SLOT:
            return self.full_slots_N
        return None if self.mapping is None else self.mapping.swa_slots(self.full_slots_N)


@dataclass(frozen=True)
class QueryRows:
    """Query rows handed to an attention kernel that gets their address and no strides: XQA.

    worker, phase, path, backend: as in AttentionRead. rows: one a query. row_elements: heads x head dim.
    row_stride: elements from one row to the next."""

    KIND: ClassVar[str] = "query_rows"
    CHECKED: ClassVar[str] = "query rows of this call"

    worker: str
    phase: str
    path: str
    backend: str
    layer_id: int
    rows: int
    row_elements: int
    row_stride: int


_OfAllocators = Allocation | Release | FreeList | MappingUpdate | PrefixMatch
View = AttentionRead | PoolSwap | _OfAllocators | KVWrite | KVSlots | QueryRows

# In this order they are judged: a cause may come before what it leads to.
_ORDER = (PoolSwap, Allocation, Release, FreeList, MappingUpdate, KVWrite, KVSlots, QueryRows, AttentionRead)
VIEWS: tuple[type[View], ...] = (*_ORDER, *(kind for kind in get_args(View) if kind not in _ORDER))

__all__ = ["VIEWS", "RequestView", "View", *(kind.__name__ for kind in VIEWS)]
