"""sglang's KV pools as views: names for people, bounds, which layer reads which, and the mapping between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from g4diag.model import IndexMapping, IndexSpace, LayerKind, PoolView
from g4diag.stack.releases import current


def pool_views(kv_pool: Any, allocator: Any | None = None, owner: str = "") -> tuple[PoolView, ...]:
    """The pools behind `kv_pool`: (full, SWA) of an SWAKVPool, else the one: an MLA pool is a pool of its own kind.
    allocator adds the free lists. owner: the worker that brought it, "" if that is not known."""
    if not current().read.is_swa_pool(kv_pool):
        name = "draft-own" if owner == "draft" else "full" if hasattr(kv_pool, "k_buffer") else "mla"
        return (_pool_view(name, IndexSpace.FULL_PAGE, kv_pool, None),)
    full = getattr(allocator, "full_attn_allocator", None)
    swa = getattr(allocator, "swa_attn_allocator", None)
    return (
        _pool_view("full", IndexSpace.FULL_PAGE, kv_pool.full_kv_pool, full),
        _pool_view("swa", IndexSpace.SWA_PAGE, kv_pool.swa_kv_pool, swa),
    )


def layer_pool(kv_pool: Any, layer_id: int, owner: str = "") -> tuple[PoolView, LayerKind | None]:
    """(the pool this layer's k_cache comes from, its kind by that pool); kind None when the pool has no opinion."""
    if not current().read.is_swa_pool(kv_pool):
        return pool_views(kv_pool, owner=owner)[0], None
    if current().read.layer_is_swa(kv_pool, layer_id):
        return _pool_view("swa", IndexSpace.SWA_PAGE, kv_pool.swa_kv_pool, None), LayerKind.SWA
    return _pool_view("full", IndexSpace.FULL_PAGE, kv_pool.full_kv_pool, None), LayerKind.FULL


def index_mapping(kv_pool: Any, page_size: int) -> IndexMapping | None:
    """A copy of the pool's full-to-SWA mapping, None for a pool without one."""
    mapping = getattr(kv_pool, "full_to_swa_index_mapping", None)
    return None if mapping is None else IndexMapping(mapping.detach().cpu().numpy().copy(), page_size)


def _pool_view(name: str, space: IndexSpace, pool: Any, allocator: Any | None) -> PoolView:
    free = None
    if allocator is not None and hasattr(allocator, "free_pages"):
        free = np.concatenate([pages.detach().cpu().numpy() for pages in current().read.free_lists(allocator)])
    # An MLA pool keeps K and V in one; which layers are in it does not matter, since all are of a size.
    rows = (pool.k_buffer if hasattr(pool, "k_buffer") else pool.kv_buffer)[0].shape[0]
    return PoolView(name, space, pool.page_size, rows // pool.page_size, free)
