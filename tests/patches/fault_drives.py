"""The shortest drives of sglang's real classes that each fault does damage in, and that nothing happens in without it.

A drive returns what it finds damaged, counted by itself and not by a trap: slots, or pages where it says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from g4diag.hooks.install import install
from g4diag.model import View
from g4diag.stack.drive import cpu
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.request_state import kv_allocated_len, kv_committed_len
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.drive.swa_pool import build, free_pages, int64
from g4diag.stack.probes.allocation import AllocationProbe
from g4diag.stack.probes.page_table import PageTableProbe
from g4diag.stack.probes.workers import Backends
from repro import (
    bigram_units,
    deferred_free_remap,
    draft_pool_too_small,
    evict_past_insert,
    free_swa_per_token,
    graph_topk_indices,
    stale_mapping_on_recycle,
    table_width_draft_tokens,
)

PAGE = 16
# Pages larger than the window, and room to decode past two of them.
SHORT_WINDOW = Geometry(full_tokens=2048, ratio=0.5, page_size=PAGE, window=8, chunk=0, prompt=58, live=1, requests=1)


@contextmanager
def watching() -> Iterator[list[View]]:
    """Views of the allocator, backend and page-table probes; kernels look at nothing."""
    views: list[View] = []
    backends = Backends(views.append)
    probes = (AllocationProbe(views.append), backends, PageTableProbe(backends, views.append))
    hooks = [hook for probe in probes for hook in probe.hooks()]

    def blind(query: torch.Tensor, **arguments: Any) -> torch.Tensor:
        return torch.zeros_like(query)

    with install("test", hooks), cpu.attention_kernels(blind, blind):
        yield views


def extend(made: Any, tokens: int) -> Any:
    """A new request's slots."""
    none, lens = int64([0]), int64([tokens])
    return made.alloc_extend(none, none, lens, lens, int64([-1]), tokens)


def recycled_tail_allocation() -> int:
    """Slots before a tail that map to an SWA page. Slots allocated ahead leave a stale entry behind."""
    return stale_mapping_on_recycle.drive(freed=17).damaged


def recovery_in_a_free_group() -> int:
    """Slots that lost the SWA page they were given after their free."""
    return deferred_free_remap.drive(grouped=True).damaged


def exhausted_pool() -> int:
    """SWA slots past the pool."""
    made = build(page_size=4, full_pages=8, swa_pages=3, need_sort=False)
    extend(made, 12)
    extend(made, 4)
    return int((made.full_to_swa_index_mapping >= made.size_swa + made.page_size).sum())


def finish_with_slots_ahead() -> int:
    """Pages that are on a free list twice."""
    serving = Serving(SHORT_WINDOW, 0, algorithm="EAGLE")
    serving.admit("r0", list(range(42)))
    driver().SCHEDULING.allocate_ahead(serving.running)
    (req,) = serving.running.reqs
    assert kv_allocated_len(req) > kv_committed_len(req) and kv_committed_len(req) % PAGE
    extend(serving.allocator, PAGE)  # somebody else's, or upstream's own sum would be over and say so
    driver().release(req, serving.tree_cache)
    pools = (serving.allocator.full_attn_allocator, serving.allocator.swa_attn_allocator)
    return sum(count - 1 for pool in pools for count in Counter(free_pages(pool)).values())


def insert_at_the_boundary() -> int:
    """Slots of radix nodes that claim an SWA slot and have none."""
    return evict_past_insert.drive(window=8).damaged


def insert_of_bigrams() -> int:
    """The same, of keys that are bigrams."""
    return bigram_units.drive(eagle=True).damaged


def draft_beside_a_full_pool() -> int:
    """Slots of one request past the buffers of a draft's pool, both sized by sglang's own runner code."""
    return draft_pool_too_small.drive(others=1600).damaged


def verify_near_the_context_wall() -> int:
    """Pages that a replayed verify looks up past its table's row."""
    return table_width_draft_tokens.drive(below=3).damaged


def free_of_part_of_a_page() -> int:
    """SWA pages that are on the free list twice. Both frees are of slots that were handed out and not yet freed."""
    return free_swa_per_token.drive(first=1).damaged


def draft_graph_of_a_tree() -> int:
    """Slots that two branches a request filled in a draft's graph index buffer. Raises what upstream does."""
    return graph_topk_indices.drive(topk=2).checked
