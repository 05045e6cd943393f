"""The mapping from full to SWA pages as a picture: where it left the diagonal, and which pages have no SWA side.

A large mapping is bucketed; the worst page of a bucket stands for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.tables import mapping_of
from g4diag.model import Finding, Grade, Incident, IndexMapping, IndexSpace, IntArray, PoolView

_POINTS = 2048
# From harmless to worst.
_STATES = ("unmapped and free", "unmapped", "same number", "another number", "mapped, yet free", "shared SWA page")
_FREE, _UNMAPPED, _SAME, _MOVED, _MAPPED_FREE, _SHARED = range(len(_STATES))


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding, where there is a mapping. Whether a page is in use is told from the full pool's free list."""
    found = mapping_of(incident)
    if found is None or not found[0].is_whole or (len(found[0].full_to_swa_M) - 1) // found[0].page_size < 2:
        return
    mapping, unit = found
    full, swa = _full_pool(incident, mapping), _swa_pool(incident, mapping)
    swa_F, states_F = _states(mapping, None if full is None else full.free_pages_N)
    mapped, moved = int((swa_F > 0).sum()), int(((swa_F > 0) & (swa_F != np.arange(1, len(swa_F) + 1))).sum())
    text = f"{mapped} of {len(swa_F)} full {unit}s have an SWA {unit}, {moved} of them under another number"
    odd = {name: int((states_F == state).sum()) for state, name in enumerate(_STATES) if state >= _MAPPED_FREE}
    text += "".join(f"; {name}: {count}" for name, count in odd.items() if count)
    data = _picture(swa_F, states_F, swa) | {"mapped": mapped, "moved": moved, "unit": unit}
    yield Finding("mapping_map", text, Grade.MEASURED, False, data, "mapping")


def _full_pool(incident: Incident, mapping: IndexMapping) -> PoolView | None:
    """The pool that the mapping is of, by its size: a draft's own has full pages too, and another free list."""
    slots, size = len(mapping.full_to_swa_M) - 1, mapping.page_size
    pools = [pool for pool in _pools(incident, IndexSpace.FULL_PAGE) if pool.page_size == size]
    return next((pool for pool in pools if pool.num_pages * size == slots), None)


def _swa_pool(incident: Incident, mapping: IndexMapping) -> PoolView | None:
    return next((pool for pool in _pools(incident, IndexSpace.SWA_PAGE) if pool.page_size == mapping.page_size), None)


def _pools(incident: Incident, space: IndexSpace) -> list[PoolView]:
    pools = (*incident.pools, *(read.pool for read in incident.reads))
    return [pool for pool in pools if pool.space is space and pool.name != "draft-own"]


def _states(mapping: IndexMapping, free_N: IntArray | None) -> tuple[IntArray, IntArray]:
    """(int64[F] SWA page, int8[F] index into _STATES) of full pages 1 .. F; page 0, the dummy, is left out."""
    pages_F = np.arange(1, (len(mapping.full_to_swa_M) - 1) // mapping.page_size)
    swa_F = mapping.swa_pages(pages_F)
    states_F = np.where(swa_F == pages_F, _SAME, _MOVED).astype(np.int8)
    free_F = np.zeros(len(pages_F), dtype=bool) if free_N is None else np.isin(pages_F, free_N)
    states_F[free_F] = _MAPPED_FREE
    mapped_F = swa_F > 0
    _, back, times = np.unique(swa_F[mapped_F], return_inverse=True, return_counts=True)
    shared_F = np.zeros(len(pages_F), dtype=bool)
    shared_F[mapped_F] = times[back] > 1
    states_F[shared_F] = _SHARED
    states_F[~mapped_F] = np.where(free_F[~mapped_F], _FREE, _UNMAPPED)
    return swa_F, states_F


def _picture(swa_F: IntArray, states_F: IntArray, swa: PoolView | None) -> dict[str, Any]:
    wide = -(-len(states_F) // _POINTS)
    starts = range(0, len(states_F), wide)
    chosen = np.array([start + int(states_F[start : start + wide].argmax()) for start in starts], dtype=np.int64)
    points = {
        name: {"full": (chosen[here] + 1).tolist(), "swa": np.maximum(swa_F[chosen[here]], 0).tolist()}
        for state, name in enumerate(_STATES)
        # A page that is neither mapped nor in use has no place in the picture.
        if state != _FREE and (here := states_F[chosen] == state).any()
    }
    return {
        "full_pages": len(states_F),
        "swa_num_pages": None if swa is None else swa.num_pages,
        "pages_a_point": wide,
        "points": points,
        "counts": {name: int((states_F == state).sum()) for state, name in enumerate(_STATES)},
    }


ANALYZER = Analyzer("mapping_map", "Where does the mapping leave the diagonal, and what has no SWA side?", analyze)
