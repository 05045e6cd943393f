"""What was written down before a table was made, for the same rows and columns: fields of an AttentionRead."""

from __future__ import annotations

from typing import Any

import numpy as np

from g4diag.model import IndexMapping, IntArray, PoolView
from g4diag.stack.probes.workers import Backends


def remembered(
    backends: Backends,
    backend: Any,
    layer: Any,
    pool: PoolView,
    full_BP: IntArray | None,
    mapping: IndexMapping | None,
) -> dict[str, Any]:
    """pool: the layer's, with pages of one token where the table has slots. full_BP, mapping: as the view has them."""
    paged = pool.space is not pool.slot_space
    found: dict[str, Any] = {
        "windows": backends.windows(layer),
        "backend_page_size": getattr(backend, "page_size", None) if paged else None,
        "allocator_page_size": backends.allocator_page_size(backend) if paged else None,
    }
    if not pool.space.is_swa or full_BP is None or mapping is None:
        return found
    source, page = backends.mapped_pool(backend), pool.page_size
    slots_BP = backends.handed_out.slots(source, full_BP * page)
    if slots_BP is None:
        return found
    handed_BP = slots_BP // page  # rounds down: -1 stays what it is
    mapped_BP = mapping.swa_pages(full_BP)
    owner_BP, differs_BP = None, mapped_BP != handed_BP
    if np.count_nonzero(differs_BP) and (differs_BP & (mapped_BP > 0)).any():
        owner_BP = backends.handed_out.owners(source, mapped_BP, page)
    return found | {"handed_out_BP": handed_BP, "owner_BP": owner_BP}
