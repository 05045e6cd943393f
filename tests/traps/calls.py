"""Allocator views in small numbers: an SWA pool of 10 pages of 4 slots, the dummy included."""

from __future__ import annotations

from typing import Any

import numpy as np

from g4diag.model import Allocation, FreeList, IndexSpace, PoolView, Release

PAGE, PAGES = 4, 10
POOL = PoolView("swa", IndexSpace.SWA_PAGE, PAGE, PAGES)
UNPAGED = PoolView("full", IndexSpace.FULL_PAGE, 1, 101)


def int64(*ids: int) -> Any:
    return np.array(ids, dtype=np.int64)


def slots(*pages: int) -> tuple[int, ...]:
    """Every slot of these pages."""
    return tuple(page * PAGE + i for page in pages for i in range(PAGE))


def allocation(*ids: int, live: tuple[int, ...] = (), call: str = "alloc_extend", pool: PoolView = POOL) -> Allocation:
    return Allocation(call, pool, int64(*ids), int64(*live))


def release(*ids: int, live: tuple[int, ...], pool: PoolView = POOL) -> Release:
    return Release(pool, int64(*ids), int64(*live))


def free_list(*pages: int, live: tuple[int, ...] = ()) -> FreeList:
    return FreeList(PoolView("swa", IndexSpace.SWA_PAGE, PAGE, PAGES, int64(*pages)), int64(*live))
