"""Shared by the traps that judge what an allocator does: pages, and a violation at one id of a call."""

from __future__ import annotations

from typing import Any

import numpy as np

from g4diag.model import Allocation, BoolArray, IntArray, PoolView, Severity, Violation
from g4diag.model.allocator_calls import FEW


def lacks_book(allocation: Allocation) -> str:
    """What an allocation lacks where nobody kept a book of what was live."""
    return "the pages that were live before the call" if allocation.live_pages_N is None else ""


def repeated(ids_N: IntArray) -> BoolArray:
    """bool[N]: True where the same id stands earlier in ids_N."""
    if all_differ(ids_N):
        return np.zeros(len(ids_N), dtype=np.bool_)
    again_N = np.ones(len(ids_N), dtype=np.bool_)
    again_N[np.unique(ids_N, return_index=True)[1]] = False
    return again_N


def all_differ(ids_N: IntArray) -> bool:
    """Whether no id stands there twice."""
    if len(ids_N) <= FEW:
        return len(set(ids_N.tolist())) == len(ids_N)
    sorted_N = np.sort(ids_N)
    return not (sorted_N[1:] == sorted_N[:-1]).any()


def violation_in_call(
    trap: str, pool: PoolView, call: str, ids_N: IntArray, bad_N: BoolArray, summary: str, **more: Any
) -> Violation:
    """An error at the first bad id of a call. summary: with `{id}` where the id goes. more: other fields."""
    at = int(np.flatnonzero(bad_N)[0])
    value, space = int(ids_N[at]), more.pop("space", pool.slot_space)
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
