"""Write an incident as a `.pt` that outlives the process: whole or not at all, small, readable without us."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from g4diag.atomic_write import atomic_write
from g4diag.dump.codecs import MAX_ITEMS
from g4diag.dump.runs import around_evidence, forgotten_after
from g4diag.dump.schema import from_document, to_document
from g4diag.errors import G4DiagError
from g4diag.model import FIELDS, AttentionRead, Grade, Incident, Violation

MAX_DUMP_BYTES = 16 << 20
_TABLES = ("page_table_BP", "full_page_table_BP", "handed_out_BP", "owner_BP")
FOREIGN = np.iinfo(np.int32).max  # stands for what is not kept: outside every pool


def write_dump(incident: Incident, path: Path, *, max_bytes: int = MAX_DUMP_BYTES) -> Path:
    """Write `incident` to `path` and return it; the parent folder is made if needed.

    The same incident gives the same bytes under the same torch. Too large, reads are left out, those without a
    violation first, and the file says how many. Raises G4DiagError if even none fits or a view is malformed
    (what could not be read back is not written), OSError if the disk refuses; `path` is then as it was.
    """
    with forgotten_after():
        data = _largest_that_fits(_capped(incident), max_bytes)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return atomic_write(path, data, durable=True, private=True)


def _capped(incident: Incident) -> Incident:
    """The lists that the reader bounds, bounded; reads are bounded where they are chosen."""
    calls = (name for name in FIELDS if name != AttentionRead.KIND)
    names = (*calls, "others", "pools", "requests", "violations", "notes")
    first = {name: getattr(incident, name)[:MAX_ITEMS] for name in names}
    reads = tuple(map(_without_foreign_memory, incident.reads))
    return replace(incident, **first, reads=reads, ring=incident.ring[-MAX_ITEMS:])


def _without_foreign_memory(read: AttentionRead) -> AttentionRead:
    """The read with one number for every id past its row's last page that is no page of the pool. Some releases leave a
    table uninitialised there: it may be anything that was in that memory before."""
    table_BP = read.page_table_BP
    last_B = (read.seq_lens_B.astype(np.int64) - 1) // read.pool.page_size
    past_BP = read.starts_B()[:, None] + np.arange(table_BP.shape[1]) > last_B[:, None]
    foreign_BP = ((table_BP < 0) | (table_BP >= read.pool.num_pages)) & past_BP
    if not foreign_BP.any():
        return read
    return replace(read, page_table_BP=np.where(foreign_BP, FOREIGN, table_BP).astype(table_BP.dtype))


def _largest_that_fits(incident: Incident, max_bytes: int) -> bytes:
    """The bytes of the incident with a read, if it has any: before that goes, the mapping is kept around what it names
    and free lists are left out. The last way is without a read."""
    ways: tuple[Callable[[Incident], Incident], ...] = (
        _as_it_is,
        _with_less_mapping,
        _without_free_lists,
        _without_columns,
    )
    for way in ways:
        incident = way(incident)
        with contextlib.suppress(_TooLargeError):
            return _fitting(incident, max_bytes, least=min(len(incident.reads), 1))
    return _fitting(incident, max_bytes, least=0)


class _TooLargeError(G4DiagError):
    """It does not fit."""


def _as_it_is(incident: Incident) -> Incident:
    return incident


def _with_less_mapping(incident: Incident) -> Incident:
    if incident.mapping is None and not any(read.mapping for read in incident.reads):
        return incident
    said = (Grade.MEASURED, "the mapping is kept where this dump names a page or a slot, and nowhere else: it is large")
    return replace(around_evidence(incident), notes=(*incident.notes, said)[-MAX_ITEMS:])


def _without_free_lists(incident: Incident) -> Incident:
    def bare(view: Any) -> Any:
        return replace(view, pool=replace(view.pool, free_pages_N=None))

    kinds = ("reads", "allocations", "releases", "kv_slots")
    views: dict[str, Any] = {kind: tuple(map(bare, getattr(incident, kind))) for kind in kinds}
    pools = tuple(replace(pool, free_pages_N=None) for pool in incident.pools)
    said = (Grade.MEASURED, "the pools' free lists are left out: they are large")
    return replace(incident, **views, pools=pools, notes=(*incident.notes, said)[-MAX_ITEMS:])


def _without_columns(incident: Incident) -> Incident:
    """The columns that some row's keys reach: of a wide table for many short rows that is next to nothing."""
    said = (Grade.MEASURED, "columns of a table that no row's keys reach are left out: it is large")
    reads = tuple(map(_cut, incident.reads))
    return replace(incident, reads=reads, notes=(*incident.notes, said)[-MAX_ITEMS:])


def _cut(read: AttentionRead) -> AttentionRead:
    reached_B = -(-read.seq_lens_B.astype(np.int64) // read.pool.page_size) - read.starts_B()
    columns = max(int(reached_B.max(initial=1)), 1)
    tables = {name: value for name in _TABLES if (value := getattr(read, name)) is not None}
    return replace(read, **{name: value[:, :columns] for name, value in tables.items()})


def _fitting(incident: Incident, max_bytes: int, least: int) -> bytes:
    """The bytes of the incident with as many of its reads as fit, found by halving. _TooLargeError where fewer than
    `least` would."""
    reads, violations = incident.reads, incident.violations
    ranked = sorted(range(len(reads)), key=lambda i: (not _violates(reads[i], violations), i))
    kept = min(len(ranked), MAX_ITEMS)
    while True:
        chosen = sorted(ranked[:kept])
        data = _serialise(replace(incident, reads=tuple(reads[i] for i in chosen)), len(ranked) - kept)
        if len(data) <= max_bytes:
            return data
        if kept <= least:
            raise _TooLargeError(f"dump: wanted at most {max_bytes} bytes, found {len(data)} with {kept} reads")
        kept = max(kept // 2, least)


def _violates(read: AttentionRead, violations: Iterable[Violation]) -> bool:
    place = (read.step, read.layer_id, read.worker, read.phase, read.path)
    return any(place == (v.step, v.layer_id, v.worker, v.phase, v.path) for v in violations)


def _serialise(incident: Incident, truncated_reads: int) -> bytes:
    import torch

    document = to_document(incident, truncated_reads)
    from_document(document)
    buffer = io.BytesIO()
    torch.save(_with_tensors(document, {}, torch.from_numpy), buffer)
    return buffer.getvalue()


def _with_tensors(value: Any, seen: dict[Any, Any], tensor: Any) -> Any:
    """`value` with tensors for arrays; equal arrays become one tensor, so a shared mapping is stored once."""
    if isinstance(value, dict):
        return {key: _with_tensors(item, seen, tensor) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_tensors(item, seen, tensor) for item in value]
    if not isinstance(value, np.ndarray):
        return value
    key = (value.dtype.str, value.shape, value.tobytes())
    if key not in seen:
        seen[key] = tensor(value)
    return seen[key]
