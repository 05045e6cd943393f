"""The dump format, version 2, as data: which fields each record has, of what type, shape and range.

dumps/FORMAT.md is the same for people. `to_document` and `from_document` are the only ways in and out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from g4diag.dump.codecs import At, Each, Flag, Int, Ints, Many, Maybe, Named, Plain, Record, Tagged, Text, Word
from g4diag.dump.runs import MappingCodec
from g4diag.model import (
    FIELDS,
    Allocation,
    AttentionRead,
    FreeList,
    Grade,
    Incident,
    IndexSpace,
    KVSlots,
    KVWrite,
    LayerKind,
    MappingUpdate,
    PoolSwap,
    PoolView,
    PrefixMatch,
    QueryRows,
    Release,
    RequestView,
    RingRecord,
    RowOwners,
    Severity,
    Violation,
    Windows,
)

FORMAT = "g4diag-dump"
VERSION = 3
_WITHOUT_RUNS = 2  # as a dump is written that holds no mapping in runs: any g4diag of version 2 reads it
MAX_PAGE_SIZE = 1 << 16
MAX_COUNT = 1 << 40


def _read_agrees(read: AttentionRead, at: At) -> None:
    rows = read.page_table_BP.shape[0]
    if read.seq_lens_B.shape != (rows,):
        at.of("seq_lens_B").refuse(f"a tensor of shape ({rows},), one entry a row of page_table_BP", read.seq_lens_B)
    for name in ("req_rows_B", "batch_lens_B", "first_B"):
        entries = getattr(read, name)
        if entries is not None and entries.shape != (rows,):
            at.of(name).refuse(f"a tensor of shape ({rows},), one entry a row of page_table_BP", entries)
    if len(read.rids) > rows:
        at.of("rids").refuse(f"at most {rows}, one a row of page_table_BP", list(read.rids))
    for name in ("full_page_table_BP", "handed_out_BP", "owner_BP"):
        pages = getattr(read, name)
        if pages is not None and pages.shape != read.page_table_BP.shape:
            at.of(name).refuse(f"the shape of page_table_BP, {read.page_table_BP.shape}", pages)
    if read.row_owners is not None and len(read.row_owners.rids) != rows:
        at.of("row_owners").of("rids").refuse(f"{rows}, one a row of page_table_BP", list(read.row_owners.rids))


def _owners_agree(owners: RowOwners, at: At) -> None:
    rows = len(owners.rids)
    for name in ("rows_B", "taken_B", "now_rids", "now_taken_B"):
        found = getattr(owners, name)
        if len(found) != rows:
            at.of(name).refuse(f"{rows} of them, one a rid", found if name.endswith("_B") else list(found))


def _update_agrees(update: MappingUpdate, at: At) -> None:
    for name in ("swa_slots_N", "mapped_N"):
        if getattr(update, name).shape != update.full_slots_N.shape:
            at.of(name).refuse(f"the shape of full_slots_N, {update.full_slots_N.shape}", getattr(update, name))


def _slots_agree(write: KVSlots, at: At) -> None:
    for name in ("slots_N", "full_slots_N", "handed_out_N"):
        slots = getattr(write, name)
        if slots is not None and slots.shape != (write.tokens,):
            at.of(name).refuse(f"a tensor of shape ({write.tokens},), one entry a token", slots)


def _match_agrees(match: PrefixMatch, at: At) -> None:
    if match.mapped_N.shape != match.full_slots_N.shape:
        at.of("mapped_N").refuse(f"the shape of full_slots_N, {match.full_slots_N.shape}", match.mapped_N)


_COUNT = Int(0, MAX_COUNT)
_PAGE_SIZE = Int(1, MAX_PAGE_SIZE)

POOL = Record(
    PoolView,
    {
        "name": Text(),
        "space": Word(IndexSpace),
        "page_size": _PAGE_SIZE,
        "num_pages": Int(1, MAX_COUNT),
        "free_pages_N": Maybe(Ints(1)),
    },
)
MAPPING = MappingCodec(_PAGE_SIZE)
REQUEST = Record(RequestView, {"rid": Text(), "row": _COUNT, "seq_len": _COUNT, "full_pages_N": Ints(1)})
_RIDS_B = Many(Text(), limit=1 << 14)  # a server caps its batch at a few thousand requests
ROW_OWNERS = Record(
    RowOwners,
    {
        "rids": _RIDS_B,
        "rows_B": Ints(1),
        "taken_B": Ints(1),
        "now_rids": _RIDS_B,
        "now_taken_B": Ints(1),
    },
    _owners_agree,
)
WINDOWS = Record(Windows, dict.fromkeys(("kept", "built", "widest"), Int(-1, MAX_COUNT)))
READ = Record(
    AttentionRead,
    {
        "step": Int(-1),
        "worker": Text(),
        "phase": Text(),
        "path": Text(),
        "backend": Text(),
        "layer_id": Int(-1, MAX_COUNT),
        "layer_kind": Word(LayerKind),
        "window_left": Int(-1, MAX_COUNT),
        "pool": POOL,
        "table_space": Maybe(Word(IndexSpace)),
        "page_table_BP": Ints(2, np.int32),
        "seq_lens_B": Ints(1, np.int32),
        "q_len": Int(1, MAX_COUNT),
        "rids": _RIDS_B,
        "req_rows_B": Maybe(Ints(1)),
        "full_page_table_BP": Maybe(Ints(2)),
        "mapping": Maybe(MAPPING),
        "is_clamped": Flag(),
        "batch_rows": Maybe(_COUNT),
        "batch_lens_B": Maybe(Ints(1)),
        "first_B": Maybe(Ints(1)),
        "handed_out_BP": Maybe(Ints(2)),
        "owner_BP": Maybe(Ints(2)),
        "row_owners": Maybe(ROW_OWNERS),
        "windows": Maybe(WINDOWS),
        "backend_page_size": Maybe(_PAGE_SIZE),
        "allocator_page_size": Maybe(_PAGE_SIZE),
    },
    _read_agrees,
)
SWAP = Record(
    PoolSwap,
    {
        "site": Text(),
        "moment": Text(),
        "backend": Text(),
        "read_pool": Text(),
        "read_pool_is_swa": Flag(),
        "swa_state": Maybe(Text()),
        "frozen_kv": Flag(),
        "before": Maybe(Each((Text(), Maybe(Text())))),
        "graph_swa_tables": Maybe(Flag()),
        "wanted_pool": Maybe(Text()),
    },
)
ALLOCATION = Record(Allocation, {"call": Text(), "pool": POOL, "slots_N": Ints(1), "live_pages_N": Maybe(Ints(1))})
RELEASE = Record(Release, {"pool": POOL, "slots_N": Ints(1), "live_pages_N": Ints(1)})
FREE_LIST = Record(FreeList, {"pool": POOL, "live_pages_N": Ints(1)})
MAPPING_UPDATE = Record(
    MappingUpdate,
    {"call": Text(), "full_slots_N": Ints(1), "swa_slots_N": Ints(1), "mapped_N": Ints(1)},
    _update_agrees,
)
KV_WRITE = Record(KVWrite, {"inside": Text(), "pool": Text(), "layer_id": Maybe(Int()), "tokens": _COUNT})
KV_SLOTS = Record(
    KVSlots,
    {
        "worker": Text(),
        "phase": Text(),
        "path": Text(),
        "backend": Text(),
        "layer_id": Int(-1, MAX_COUNT),
        "layer_kind": Maybe(Word(LayerKind)),
        "pool": POOL,
        "slots_space": Maybe(Word(IndexSpace)),
        "tokens": _COUNT,
        "slots_N": Maybe(Ints(1)),
        "full_slots_N": Maybe(Ints(1)),
        "mapping": Maybe(MAPPING),
        "handed_out_N": Maybe(Ints(1)),
    },
    _slots_agree,
)
QUERY_ROWS = Record(
    QueryRows,
    {
        "worker": Text(),
        "phase": Text(),
        "path": Text(),
        "backend": Text(),
        "layer_id": Int(-1, MAX_COUNT),
        "rows": _COUNT,
        "row_elements": _COUNT,
        "row_stride": _COUNT,
    },
)
PREFIX_MATCH = Record(
    PrefixMatch,
    {"cache": Text(), "tokens": _COUNT, "window": _COUNT, "full_slots_N": Ints(1), "mapped_N": Ints(1)},
    _match_agrees,
)
VIOLATION = Record(
    Violation,
    {
        "trap": Text(),
        "severity": Word(Severity),
        "summary": Text(),
        "worker": Text(),
        "phase": Text(),
        "path": Text(),
        "backend": Text(),
        "step": Maybe(Int()),
        "layer_id": Maybe(Int()),
        "layer_kind": Maybe(Word(LayerKind)),
        "window_left": Maybe(Int()),
        "row": Maybe(_COUNT),
        "rid": Maybe(Text()),
        "column": Maybe(_COUNT),
        "value": Maybe(Int()),
        "expected": Maybe(Int()),
        "low": Int(),
        "bound": Maybe(Int()),
        "value_space": Maybe(Word(IndexSpace)),
        "expected_space": Maybe(Word(IndexSpace)),
        "count": _COUNT,
        "checked": _COUNT,
    },
)
_RING_TEXT = ("kind", "mode", "text")
RING = Record(
    RingRecord,
    {name: Text() if name in _RING_TEXT else Int() for name in RingRecord.__annotations__ if name != "rids"}
    | {"rids": Many(Text())},
)
RECORDS: dict[str, Record] = {
    record.of.KIND: record
    for record in (
        *(READ, SWAP, ALLOCATION, RELEASE, FREE_LIST, MAPPING_UPDATE),
        *(KV_WRITE, KV_SLOTS, QUERY_ROWS, PREFIX_MATCH),
    )
}
INCIDENT = Record(
    Incident,
    {
        "origin": Text(),
        **{kind: Many(RECORDS[kind]) for kind in FIELDS},
        "others": Many(Tagged({kind: record for kind, record in RECORDS.items() if kind not in FIELDS})),
        "pools": Many(POOL),
        "mapping": Maybe(MAPPING),
        "requests": Many(REQUEST),
        "violations": Many(VIOLATION),
        "manifest": Named(Many(Text(), list)),
        "versions": Named(Text()),
        "context": Named(Plain()),
        "notes": Many(Each((Word(Grade), Text()))),
        "ring": Many(RING),
    },
)


def to_document(incident: Incident, truncated_reads: int = 0) -> dict[str, Any]:
    """The plain dict of an incident; arrays are numpy. truncated_reads: reads that were left out of it."""
    packed = INCIDENT.pack(incident)
    mappings = [packed["mapping"], *(view["mapping"] for kind in ("reads", "kv_slots") for view in packed[kind])]
    version = VERSION if any("runs_R3" in mapping for mapping in mappings if mapping) else _WITHOUT_RUNS
    head = {"format": FORMAT, "version": version, "truncated_reads": truncated_reads}
    if not packed["others"]:
        del packed["others"]  # as every dump was before there was such a field
    return head | packed


def from_document(document: dict[str, Any]) -> Incident:
    """The incident in a document whose `format` is ours. Raises UnsafeInputError naming the malformed field."""
    at = At()
    version = Int(1).unpack(document.get("version"), at.of("version"))
    if version > VERSION:
        at.of("version").refuse(f"at most {VERSION}, the newest this g4diag reads", version)
    incident: Incident = INCIDENT.unpack(document, at)
    left_out = _COUNT.unpack(document.get("truncated_reads", 0), at.of("truncated_reads"))
    return _with_note(incident, left_out) if left_out else incident


def _with_note(incident: Incident, left_out: int) -> Incident:
    text = f"{left_out} reads were left out when this file was written, to keep it small"
    return replace(incident, notes=(*incident.notes, (Grade.MEASURED, text)), unread=(*incident.unread, text))
