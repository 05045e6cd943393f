"""The full-to-SWA mapping in a dump: as it is while it is small, in runs of equal or consecutive entries where that is
smaller, and kept around what the evidence names where even that is too much."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from g4diag.dump.codecs import INT32, At, Codec, Int, Ints
from g4diag.model import AttentionRead, Incident, IndexMapping, IndexSpace

PLAIN_SLOTS = 1 << 18  # 1 MiB as it is stored
# Of all mappings of a document, as they are read: a few bytes of runs may stand for many slots.
MAX_SLOTS = 1 << 25
NOT_KEPT = -1  # of a slot; a page of it is then unknown, as one outside the mapping is


@dataclass(frozen=True)
class MappingCodec:
    """`full_to_swa_M`, or `slots` and `runs_R3`: [first slot, its entry, 0 or 1 added from slot to slot], ascending; a
    run lasts until the next begins, the last one until `slots`."""

    page_size: Codec

    def pack(self, value: IndexMapping) -> dict[str, Any]:
        size = self.page_size.pack(value.page_size)
        entries_M = np.ascontiguousarray(value.full_to_swa_M)
        if len(entries_M) > PLAIN_SLOTS and (runs_R3 := _packed(value.full_to_swa_M)) is not None:
            return {"slots": len(entries_M), "runs_R3": runs_R3, "page_size": size}
        return {"full_to_swa_M": Ints(1, filled=True).pack(entries_M), "page_size": size}

    def unpack(self, raw: Any, at: At) -> IndexMapping:
        if not isinstance(raw, dict):
            at.refuse("a IndexMapping record (dict)", raw)
        size = self.page_size.unpack(raw.get("page_size"), at.of("page_size"))
        if "runs_R3" in raw:
            return IndexMapping(self._expanded(raw, at), size)
        if "full_to_swa_M" not in raw:
            at.of("full_to_swa_M").refuse("this field", None)
        return IndexMapping(Ints(1, filled=True).unpack(raw["full_to_swa_M"], at.of("full_to_swa_M")), size)

    def _expanded(self, raw: dict[str, Any], at: At) -> Any:
        slots = Int(1, MAX_SLOTS).unpack(raw.get("slots"), at.of("slots"))
        given = raw["runs_R3"]
        kept = at.widened.get(~id(given))
        if kept is not None and len(kept[1]) == slots:
            return kept[1]
        runs_R3 = Ints(2, np.int32, filled=True).unpack(given, at.of("runs_R3")).astype(np.int64)
        starts_R = runs_R3[:, 0] if runs_R3.shape[1] == 3 else np.array([-1])
        rises = len(starts_R) < 2 or bool((np.diff(starts_R) > 0).all())
        fits = rises and starts_R[0] == 0 and starts_R[-1] < slots and bool(np.isin(runs_R3[:, 2], (0, 1)).all())
        if not fits or int(np.abs(runs_R3[:, 1]).max()) > INT32.max:
            at.of("runs_R3").refuse(f"[R, 3] runs of {slots} slots, ascending from 0, each adding 0 or 1", given)
        purse = at.widened.setdefault(-2, ([0], None))[0]
        purse[0] += slots
        if purse[0] > MAX_SLOTS:
            at.refuse(f"mappings of at most {MAX_SLOTS} slots in all", purse[0])
        entries_M = expanded(runs_R3, slots)
        at.widened[~id(given)] = (given, entries_M)
        return entries_M


_last: list[tuple[Any, Any]] = []


@contextlib.contextmanager
def forgotten_after() -> Iterator[None]:
    """What was packed in here is not held on to."""
    try:
        yield
    finally:
        _last.clear()


def _packed(entries_M: Any) -> Any:
    """The runs as they are stored, None where they are no smaller. Many reads hold one mapping: the same array each."""
    for known_M, runs_R3 in _last:
        if known_M is entries_M:
            return runs_R3
    found_R3 = runs_of(entries_M)
    _last[:] = [(entries_M, Ints(2).pack(found_R3) if 3 * len(found_R3) < len(entries_M) else None), *_last[:3]]
    return _last[0][1]


def runs_of(entries_M: Any) -> Any:
    """int64[R, 3] of int[M], without loss."""
    entries_M = entries_M.astype(np.int64)
    step_M = np.append(np.diff(entries_M), -1)  # to the next entry
    goes_on_M = (step_M == 0) | (step_M == 1)
    begins_M = np.ones(len(entries_M), dtype=bool)
    begins_M[1:] = ~goes_on_M[:-1]
    begins_M[2:] |= goes_on_M[:-2] & (step_M[1:-1] != step_M[:-2])
    starts_R = np.flatnonzero(begins_M)
    ends_R = np.append(starts_R[1:], len(entries_M))
    steps_R = np.where(ends_R - starts_R > 1, step_M[starts_R], 0)
    return np.stack([starts_R, entries_M[starts_R], steps_R], axis=1)


def expanded(runs_R3: Any, slots: int) -> Any:
    """int64[M]: what `runs_of` was given."""
    starts_R, entries_R, steps_R = runs_R3.T
    lengths_R = np.diff(np.append(starts_R, slots))
    inside_M = np.arange(slots) - np.repeat(starts_R, lengths_R)
    return np.repeat(entries_R, lengths_R) + np.repeat(steps_R, lengths_R) * inside_M


def around_evidence(incident: Incident) -> Incident:
    """`incident` with its mappings kept where it names a slot, NOT_KEPT elsewhere."""
    pages = list(_pages_named(incident))
    slots = [update.full_slots_N for update in incident.mapping_updates]
    slots += [write.full_slots_N for write in incident.kv_slots if write.full_slots_N is not None]
    for calls in (incident.allocations, incident.releases):
        slots += [call.slots_N for call in calls if call.pool.space is IndexSpace.FULL_SLOT]
    swa = [read.page_table_BP.ravel() for read in incident.reads if read.pool.space is IndexSpace.SWA_PAGE]

    @functools.cache
    def kept(mapping_id: int) -> IndexMapping:
        mapping = mappings[mapping_id]
        entries_M, size = mapping.full_to_swa_M, mapping.page_size
        count = -(-len(entries_M) // size)
        keep_F = np.zeros(count, dtype=bool)
        for named in (*pages, *(slots_N // size for slots_N in slots)):
            keep_F[named[(named >= 0) & (named < count)]] = True
        keep_M = np.repeat(keep_F, size)[: len(entries_M)]
        if swa:
            keep_M |= (entries_M > 0) & np.isin(entries_M // size, np.concatenate(swa))
        keep_M[-1] = True
        return replace(mapping, full_to_swa_M=np.where(keep_M, entries_M, NOT_KEPT))

    def with_kept(value: Any) -> Any:
        return value if value.mapping is None else replace(value, mapping=kept(id(value.mapping)))

    holders = [incident, *incident.reads, *incident.kv_slots]
    mappings = {id(holder.mapping): holder.mapping for holder in holders if holder.mapping is not None}  # type: ignore[attr-defined]
    reads, written = tuple(map(with_kept, incident.reads)), tuple(map(with_kept, incident.kv_slots))
    return replace(with_kept(incident), reads=reads, kv_slots=written)


def _pages_named(incident: Incident) -> Iterator[Any]:
    """Ids of full pages, int64 each."""
    for read in incident.reads:
        yield from _of_read(read)
    yield from (request.full_pages_N for request in incident.requests)


def _of_read(read: AttentionRead) -> Iterator[Any]:
    if read.full_page_table_BP is not None:
        yield read.full_page_table_BP.ravel().astype(np.int64)
    # Where a table was left in full space, its ids name full pages too.
    yield read.page_table_BP.ravel().astype(np.int64)
