"""The Hypothesis machine on sglang's real SWATokenToKVPoolAllocator, with a real, tiny SWAKVPool on the CPU.

Allocation goes through the Triton kernels under their interpreter, about 5 ms a kernel: examples are few and long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import event, target
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sglang.srt.mem_cache.allocator.swa import SWATokenToKVPoolAllocator
from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

from g4diag.model import Allocation, IndexSpace, IntArray, PoolView
from g4diag.traps.slot_inside_allocator import TRAP
from tests.machines.swa_model import SwaModel

GOALS = ("diverged", "recycled", "window_crossed", "full_exhausted", "swa_exhausted", "need_sort", "batched")


def tokens(pages: int) -> st.SearchStrategy[int]:
    """1 .. pages pages' worth of tokens, page edges as likely as all the rest."""
    return st.runner().flatmap(
        lambda m: st.one_of(st.integers(1, pages).map(lambda n: n * m.page_size), st.integers(1, pages * m.page_size))
    )


def rids(**sizes: int) -> st.SearchStrategy[list[int]]:
    """Distinct live requests."""
    return st.runner().flatmap(lambda m: st.lists(st.sampled_from(sorted(m.model.requests)), unique=True, **sizes))


def int64(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def build(page_size: int, full_pages: int, swa_pages: int, need_sort: bool) -> SWATokenToKVPoolAllocator:
    """A real allocator over a real pool of one full and one sliding layer, one head of one element."""
    sizes = {"size": full_pages * page_size, "size_swa": swa_pages * page_size, "page_size": page_size}
    pool = SWAKVPool(
        **sizes,
        dtype=torch.float32,
        head_num=1,
        head_dim=1,
        swa_attention_layer_ids=[0],
        full_attention_layer_ids=[1],
        enable_kvcache_transpose=False,
        device="cpu",
    )
    return SWATokenToKVPoolAllocator(**sizes, dtype=torch.float32, device="cpu", kvcache=pool, need_sort=need_sort)


def free_pages(sub_allocator: Any) -> list[int]:
    return [*sub_allocator.free_pages.tolist(), *sub_allocator.release_pages.tolist()]


class SwaAllocatorMachine(RuleBasedStateMachine):
    """Subclassed with a page size, where to count coverage, and a fault to put into each fresh allocator."""

    page_size: int
    coverage: Counter[str]
    sabotage: Callable[[SWATokenToKVPoolAllocator], None] | None = None

    @initialize(
        full=st.integers(4, 12),
        swa=st.integers(3, 12),
        window=tokens(1),
        need_sort=st.booleans(),
    )
    def start(self, full: int, swa: int, window: int, need_sort: bool) -> None:
        self.window, self.need_sort = window, need_sort
        self.allocator = build(self.page_size, full, swa, need_sort)
        self.model = SwaModel(self.page_size, full, swa)
        if self.sabotage is not None:
            type(self).sabotage(self.allocator)

    @rule(lengths=st.lists(tokens(3), min_size=1, max_size=3))
    def admit(self, lengths: list[int]) -> None:
        """First chunks of new requests."""
        self._extend({self.model.admit(): length for length in lengths})
        self.model.requests = {rid: r for rid, r in self.model.requests.items() if r.slots}

    @precondition(lambda self: self.model.requests)
    @rule(picked=rids(min_size=1, max_size=2), length=tokens(2))
    def chunk(self, picked: list[int], length: int) -> None:
        """The next chunk of requests in prefill."""
        self._extend(dict.fromkeys(picked, length))

    @precondition(lambda self: self.model.requests)
    @rule(picked=rids(min_size=1))
    def decode(self, picked: list[int]) -> None:
        """One token each, when it fits: sglang's scheduler asks first, and the kernel relies on it."""
        batch = dict.fromkeys(picked, 1)
        if not self.model.fits(self.model.new_pages(batch)):
            return
        requests = [self.model.requests[rid] for rid in picked]
        lens = int64([len(request.slots) + 1 for request in requests])
        handed = self.allocator.alloc_decode(lens, lens, int64([request.last_loc for request in requests]))
        self._take("alloc_decode", batch, handed)

    @precondition(lambda self: self.model.requests)
    @rule()
    def slide(self) -> None:
        """free_swa of what lies wholly left of each window, as ScheduleBatch.maybe_evict_swa does."""
        for rid, request in self.model.requests.items():
            upto = (len(request.slots) - self.window) // self.page_size * self.page_size
            if upto > request.evicted:
                self.allocator.free_swa(int64(self.model.evict(rid, upto)))

    @precondition(lambda self: self.model.requests)
    @rule(picked=rids(min_size=1, max_size=2))
    def finish(self, picked: list[int]) -> None:
        """free of whole requests."""
        for rid in picked:
            self.allocator.free(int64(self.model.free(rid)))

    @invariant()
    def mapping_is_the_models(self) -> None:
        """Live and in the window: its SWA slot. Otherwise 0. The sentinel stays."""
        actual_M, expected_M = self.allocator.full_to_swa_index_mapping.numpy(), self.model.mapping()
        assert len(actual_M) == len(expected_M)
        wrong = np.flatnonzero(actual_M != expected_M)
        assert not len(wrong), f"mapping: slot {wrong[0]} -> {actual_M[wrong[0]]}, not {expected_M[wrong[0]]}"

    @invariant()
    def every_page_is_free_or_live(self) -> None:
        """Never both, never neither, never twice on a free list: so the sums hold too."""
        full = free_pages(self.allocator.full_attn_allocator)
        swa = free_pages(self.allocator.swa_attn_allocator)
        assert sorted(full) == sorted(self.model.full_free), f"owner: full free list {sorted(full)}"
        assert sorted(swa) == sorted(self.model.swa_free), f"owner: SWA free list {sorted(swa)}"

    @invariant()
    def swa_pages_have_one_full_page(self) -> None:
        pages = list(self.model.swa_of.values())
        assert len(set(pages)) == len(pages), f"mapping: two full pages share one of {sorted(pages)}"

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        self.coverage.update(self.model.coverage)
        for goal in GOALS:
            if self.model.coverage[goal]:
                event(f"reached {goal}")
        target(float(self.model.coverage["diverged"]), label="pages that diverged")

    def _extend(self, chunks: dict[int, int]) -> None:
        requests = [self.model.requests[rid] for rid in chunks]
        have = [len(request.slots) for request in requests]
        prefix, lens = int64(have), int64([n + extra for n, extra in zip(have, chunks.values(), strict=True)])
        last_loc = int64([request.last_loc for request in requests])
        handed = self.allocator.alloc_extend(prefix, prefix, lens, lens, last_loc, sum(chunks.values()))
        self._take("alloc_extend", chunks, handed)

    def _take(self, call: str, chunks: dict[int, int], handed: torch.Tensor | None) -> None:
        """Give the model what was handed out. A refusal must be due, and must leave all as it was."""
        pages, model = self.model.new_pages(chunks), self.model
        model.coverage["full_exhausted"] += pages > len(model.full_free)
        model.coverage["swa_exhausted"] += pages > len(model.swa_free)
        assert (handed is not None) == model.fits(pages), f"room: {call} of {pages} pages, handed {handed}"
        if handed is None:
            return
        full_N = handed.numpy().copy()
        self._judge(call, IndexSpace.FULL_PAGE, full_N)
        swa_N = self.allocator.translate_loc_from_full_to_swa(handed).numpy()
        self._judge(call, IndexSpace.SWA_PAGE, swa_N)
        assert len(full_N) == sum(chunks.values())
        model.coverage["need_sort"] += self.need_sort
        model.coverage["batched"] += len(chunks) > 1
        ends = np.cumsum(list(chunks.values()))[:-1]
        for rid, full, swa in zip(chunks, np.split(full_N, ends), np.split(swa_N, ends), strict=True):
            model.append(rid, full, swa)

    def _judge(self, call: str, space: IndexSpace, slots_N: IntArray) -> None:
        """The trap is the oracle; its bound is the buffer the slots index."""
        kv = self.allocator.get_kvcache()
        sub_pool = kv.full_kv_pool if space is IndexSpace.FULL_PAGE else kv.swa_kv_pool
        num_pages = sub_pool.k_buffer[0].shape[0] // self.page_size
        view = Allocation(call, PoolView(str(space), space, self.page_size, num_pages), slots_N)
        violations = list(TRAP.judge(view))
        assert not violations, f"{violations[0].trap}: {violations[0].summary}"
