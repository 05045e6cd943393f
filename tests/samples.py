"""One bad batch and one healthy one, in the numbers of the issue: 154 SWA pages of 64 tokens, window 128."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from g4diag.model import (
    AttentionRead,
    Grade,
    Incident,
    IndexMapping,
    IndexSpace,
    LayerKind,
    PoolSwap,
    PoolView,
    RequestView,
)

PAGE, SWA_PAGES, FULL_PAGES, WINDOW = 64, 154, 1025, 128
SEQ_LEN = 4000
COLUMNS = 64  # 62.5 pages of tokens, then one stale column
LAST = (SEQ_LEN - 1) // PAGE
FIRST = (SEQ_LEN - 1 - WINDOW) // PAGE


def full_pages() -> Any:
    """int64[COLUMNS]: the request's pages in full space, 128.. in position order; the last column is stale."""
    return np.arange(128, 128 + COLUMNS, dtype=np.int64)


def mapping() -> IndexMapping:
    """Full page 128+i is SWA page 40+(i % 100), whole pages; nothing else is mapped."""
    slots = np.zeros(FULL_PAGES * PAGE + 1, dtype=np.int64)
    for i in range(COLUMNS):
        start = (128 + i) * PAGE
        slots[start : start + PAGE] = np.arange(PAGE) + (40 + i % 100) * PAGE
    slots[-1] = -1
    return IndexMapping(slots, PAGE)


def swa_pool() -> PoolView:
    """154 pages, the last 20 of them free."""
    return PoolView("swa", IndexSpace.SWA_PAGE, PAGE, SWA_PAGES, np.arange(134, 154))


def full_pool() -> PoolView:
    """1025 pages, half of them free."""
    return PoolView("full", IndexSpace.FULL_PAGE, PAGE, FULL_PAGES, np.arange(513, 1025))


def healthy_read(**changes: Any) -> AttentionRead:
    """A sliding draft layer handed the SWA table of one request, as it should be."""
    read = AttentionRead(
        step=12,
        worker="draft",
        phase="draft_decode",
        path="eager",
        backend="TRTLLMHAAttnBackend",
        layer_id=4,
        layer_kind=LayerKind.SWA,
        window_left=WINDOW,
        pool=swa_pool(),
        table_space=IndexSpace.SWA_PAGE,
        page_table_BP=mapping().swa_pages(full_pages())[None].astype(np.int32),
        seq_lens_B=np.array([SEQ_LEN], dtype=np.int32),
        rids=("r7",),
        req_rows_B=np.array([3]),
        full_page_table_BP=full_pages()[None],
        mapping=mapping(),
    )
    return replace(read, **changes)


def faulty_read(**changes: Any) -> AttentionRead:
    """The frozen-KV SWA bug: the same layer handed the full-space table."""
    table = full_pages()[None].astype(np.int32)
    return healthy_read(**{"page_table_BP": table, "table_space": IndexSpace.FULL_PAGE} | changes)


def stale_swap() -> PoolSwap:
    """The frozen-KV SWA bug one step earlier."""
    return PoolSwap(
        "frozen_kv_target_view", "enter", "TRTLLMHAAttnBackend", "target:SWAKVPool", True, None, frozen_kv=True
    )


def incident(*reads: AttentionRead, **changes: Any) -> Incident:
    """An incident of g4diag around some reads, with the request that is live in them."""
    made = Incident(
        "g4diag",
        reads=reads,
        pools=(full_pool(), swa_pool()),
        mapping=mapping(),
        requests=(RequestView("r7", 3, SEQ_LEN, full_pages()[: LAST + 1]),),
        manifest={"patches": [], "faults": ["faulty-rule"], "traps": ["page_table_stays_in_pool"]},
        versions={"sglang": "0.5.13"},
        context={"scenario": "trtllm-mha-swa", "seed": 0},
        notes=((Grade.MEASURED, "made for a test"),),
    )
    return replace(made, **changes)


def faulty_incident() -> Incident:
    """The whole of the frozen-KV SWA bug: stale state, then a table in the wrong space."""
    return incident(healthy_read(step=11), faulty_read(), swaps=(stale_swap(),))


def same(left: Any, right: Any) -> bool:
    """Deep equality that knows arrays (dtype and shape included); bool is not int."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and bool((left == right).all())
    if is_dataclass(left):
        return all(same(getattr(left, f.name), getattr(right, f.name)) for f in fields(left))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)
