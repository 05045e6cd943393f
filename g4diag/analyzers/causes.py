"""What can cause what: a small declared table, and in one case the first cause with what followed from it.

A link is only made where both claims are of the same thing: the same backend, the same read, or ids in common. Two
claims on one entry, its space and its bound, are one finding and no chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from g4diag.analyzers.judging import Judged, judge, lead
from g4diag.analyzers.once import once
from g4diag.analyzers.tables import bad_BP
from g4diag.model import (
    Allocation,
    AttentionRead,
    BoolArray,
    FreeList,
    Incident,
    IndexSpace,
    KVSlots,
    MappingUpdate,
    PoolSwap,
    Release,
    Severity,
)
from g4diag.traps.slots import repeated

_TABLES = ("page_table_in_layer_space", "page_table_stays_in_pool", "page_in_window_is_mapped", "table_is_wide_enough")
_WRITES = ("kv_slots_in_layer_space",)
_Ids = dict[IndexSpace, set[int]]


@dataclass(frozen=True)
class Cause:
    """trap: the claim that breaks first. effects: claims that break of it. why: how. link: what two broken views must
    have in common."""

    trap: str
    effects: tuple[str, ...]
    why: str
    link: Callable[[Judged, Judged], bool]


def _same_backend(cause: Judged, effect: Judged) -> bool:
    swap, view = cause.view, effect.view
    names = swap.backend.split(">") if isinstance(swap, PoolSwap) else []
    return isinstance(view, AttentionRead | KVSlots) and view.backend in names


def _same_read(cause: Judged, effect: Judged) -> bool:
    return cause.view is effect.view


def _ids_in_common(cause: Judged, effect: Judged) -> bool:
    left, right = _ids(cause), _ids(effect)
    return any(ids & right.get(space, set()) for space, ids in left.items())


CAUSES = (
    Cause("swa_state_follows_pool", _TABLES[:2], "tables are built for the pool of its SWA state", _same_backend),
    Cause("table_is_of_this_step", _TABLES, "the window is where the lengths say", _same_read),
    Cause(
        "free_of_live_only",
        ("slot_has_one_owner", "free_list_is_free", "mapping_follows_allocation", *_TABLES[:3], *_WRITES),
        "what is freed under its owner is handed out again",
        _ids_in_common,
    ),
    Cause("free_list_is_free", ("slot_has_one_owner",), "what is on the free list is handed out", _ids_in_common),
    Cause(
        "slot_inside_allocator", (*_TABLES[:2], *_WRITES), "tables hold what the allocator handed out", _ids_in_common
    ),
    Cause(
        "mapping_follows_allocation",
        ("free_of_live_only", *_TABLES[:3], *_WRITES),
        "SWA tables and writes go through the mapping",
        _ids_in_common,
    ),
)
_NAMED = 8
_BY_TRAP = {cause.trap: cause for cause in CAUSES}


@dataclass(frozen=True)
class Chain:
    """first: the cause. then: what followed from it, each with the way it does. links: of each of these, in the same
    order, what its two views have in common, as plain values."""

    first: Judged
    then: tuple[tuple[Judged, str], ...]
    links: tuple[dict[str, Any], ...] = ()


@once
def chain_of(incident: Incident) -> Chain | None:
    """The chain of the violation that would lead by itself: its first cause, and all that came of that. None where
    nothing is broken."""
    hits = judge(incident).hits
    top = lead(hits)
    if top is None:
        return None
    first = _first(top, hits)
    found = [*_effects_of(first, hits)]
    then = tuple((effect, _BY_TRAP[cause.violation.trap].why) for cause, effect in found)
    return Chain(first, then, tuple(_common(cause, effect) for cause, effect in found))


def headline(incident: Incident) -> Judged | None:
    """The violation that the report leads with: the first cause, or what followed first where the cause, a pool swap,
    has no entry to show."""
    chain = chain_of(incident)
    if chain is None or not isinstance(chain.first.view, PoolSwap):
        return chain.first if chain else None
    return next((hit for hit, _ in chain.then), chain.first)


def _first(top: Judged, hits: Sequence[Judged]) -> Judged:
    first, seen = top, {id(top)}
    while cause := next((hit for hit in hits if id(hit) not in seen and _leads_to(hit, first)), None):
        seen.add(id(cause))
        first = cause
    return first


def _effects_of(first: Judged, hits: Sequence[Judged]) -> Iterator[tuple[Judged, Judged]]:
    """(cause, effect): what came of it, nearest first; of several views that break one claim the one that says it
    best."""
    seen, near = {first.violation.trap}, [first]
    while near:
        cause = near.pop(0)
        of_it = [hit for hit in hits if _leads_to(cause, hit)]
        while effect := lead(hit for hit in of_it if hit.violation.trap not in seen):
            # What else the same view breaks is the same finding.
            seen.update(hit.violation.trap for hit in of_it if hit.view is effect.view)
            near.append(effect)
            yield cause, effect


def _leads_to(hit: Judged, effect: Judged) -> bool:
    cause = _BY_TRAP.get(hit.violation.trap)
    if cause is None or effect.violation.trap not in cause.effects or hit.violation.severity is not Severity.ERROR:
        return False
    return _in_order(hit, effect) and cause.link(hit, effect)


def _common(cause: Judged, effect: Judged) -> dict[str, Any]:
    """What links the two, so that it can be looked up: a backend, a step's read, or the first ids in common."""
    told: dict[str, Any] = {"cause": cause.violation.trap, "effect": effect.violation.trap}
    link = _BY_TRAP[cause.violation.trap].link
    if link is _same_backend:
        return told | {"by": "backend", "backend": effect.violation.backend}
    if link is _same_read:
        return told | {"by": "read", "step": effect.violation.step, "layer_id": effect.violation.layer_id}
    left, right = _ids(cause), _ids(effect)
    space, ids = next((space, both) for space in left if (both := left[space] & right.get(space, set())))
    return told | {"by": "ids", "space": str(space), "ids": sorted(ids)[:_NAMED], "left_out": max(len(ids) - _NAMED, 0)}


def _in_order(hit: Judged, effect: Judged) -> bool:
    """A mapping that an allocation left wrong comes before a free, one that a free left wrong after it."""
    if isinstance(hit.view, MappingUpdate) and isinstance(effect.view, Release):
        return hit.view.call.startswith("alloc")
    if isinstance(hit.view, Release) and isinstance(effect.view, MappingUpdate):
        return effect.view.call.startswith("free")
    return True


def _ids(hit: Judged) -> _Ids:
    """The ids that are wrong in the view, as slots of each space."""
    view = hit.view
    if isinstance(view, Allocation | Release):
        return {view.pool.slot_space: _set(view.slots_N[_wrong_N(view)])}
    if isinstance(view, FreeList) and (free_N := view.pool.free_pages_N) is not None:
        wrong_N = repeated(free_N) | np.isin(free_N, view.live_pages_N)
        return _of_pages(view.pool.slot_space, free_N[wrong_N], view.pool.page_size)
    if isinstance(view, MappingUpdate):
        bad_N = view.mapped_N != view.swa_slots_N
        swa = {IndexSpace.SWA_SLOT: _set(np.concatenate([view.mapped_N[bad_N], view.swa_slots_N[bad_N]]))}
        return {IndexSpace.FULL_SLOT: _set(view.full_slots_N[bad_N])} | swa
    if isinstance(view, KVSlots) and view.slots_N is not None:
        right_N = view.expected_N()
        wrong_N = np.ones(len(view.slots_N), bool) if right_N is None else view.slots_N != right_N
        return {view.pool.slot_space: _set(view.slots_N[wrong_N])}
    if isinstance(view, AttentionRead):
        return _of_read(view)
    return {}


def _wrong_N(call: Allocation | Release) -> BoolArray:
    """bool[N]: freed and not live, or handed out though it is live or no slot of the pool; and what is there twice."""
    pool, slots_N, alive_N = call.pool, call.slots_N, call.live_pages_N
    is_live_N = np.isin(slots_N // pool.page_size, np.zeros(0, np.int64) if alive_N is None else alive_N)
    if isinstance(call, Release):
        return repeated(slots_N) | ~is_live_N
    outside_N = (slots_N < pool.page_size) | (slots_N >= pool.num_pages * pool.page_size)
    begins_N = slots_N % pool.page_size == 0
    wrong_N: BoolArray = repeated(slots_N) | outside_N | (begins_N & is_live_N)
    return wrong_N


def _of_read(read: AttentionRead) -> _Ids:
    """Of the wrong entries, or of the live ones where each holds what belongs there."""
    at_BP = bad_BP(read)
    at_BP = at_BP if at_BP.any() else read.live_BP() & (read.page_table_BP == 0)
    size = read.pool.page_size
    found = _of_pages(read.pool.slot_space, read.page_table_BP[at_BP], size)
    if read.full_page_table_BP is not None and read.expected_space.is_swa:
        found |= _of_pages(IndexSpace.FULL_SLOT, read.full_page_table_BP[at_BP], size)
    return found


def _of_pages(space: IndexSpace, pages_N: np.ndarray, size: int) -> _Ids:
    slots = (pages_N.astype(np.int64)[:, None] * size + np.arange(size)).ravel()
    return {space: _set(slots)}


def _set(ids_N: np.ndarray) -> set[int]:
    return set(ids_N[ids_N > 0].tolist())
