"""Shared by the traps that judge what an allocator does: spaces, pages, and a violation at one id of a call."""

from __future__ import annotations

from typing import Any

import numpy as np

from g4diag.model import BoolArray, IndexSpace, IntArray, PoolView, Severity, Violation


def slot_space(pool: PoolView) -> IndexSpace:
    """The slot space that goes with the pool's page space."""
    return IndexSpace.SWA_SLOT if pool.space is IndexSpace.SWA_PAGE else IndexSpace.FULL_SLOT


def repeated(ids_N: IntArray) -> BoolArray:
    """bool[N]: True where the same id stands earlier in ids_N."""
    sorted_N = np.sort(ids_N)
    if not (sorted_N[1:] == sorted_N[:-1]).any():
        return np.zeros(len(ids_N), dtype=np.bool_)
    again_N = np.ones(len(ids_N), dtype=np.bool_)
    again_N[np.unique(ids_N, return_index=True)[1]] = False
    return again_N


def violation_in_call(
    trap: str, pool: PoolView, call: str, ids_N: IntArray, bad_N: BoolArray, summary: str, **more: Any
) -> Violation:
    """An error at the first bad id of a call. summary: with `{id}` where the id goes. more: other fields."""
    at = int(np.flatnonzero(bad_N)[0])
    value, space = int(ids_N[at]), more.pop("space", slot_space(pool))
    return Violation(
        trap=trap,
        severity=Severity.ERROR,
        summary=summary.replace("{id}", str(value)),
        phase=call,
        column=at,
        value=value,
        value_space=space,
        expected_space=space,
        count=int(bad_N.sum()),
        checked=len(ids_N),
        **more,
    )
