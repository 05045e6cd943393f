"""What must hold of an SWA allocator: its answers against the model, page by page, and its state after every step."""

from __future__ import annotations

from typing import Any

import numpy as np

from g4diag.fuzz.machine import FuzzMachine
from g4diag.fuzz.swa_model import SwaModel
from g4diag.model import FreeList, IndexMapping, IndexSpace, IntArray, PoolView
from g4diag.stack.drive import swa_pool
from g4diag.stack.drive.swa_pool import free_pages


class SwaInvariants(FuzzMachine):
    """Base of a machine with an `allocator` of sglang's and its `model`; both are there once `start` has run."""

    page_size: int
    allocator: Any
    model: SwaModel
    diverged: int

    def model_of(self, page_size: int, full_pages: int, swa_pages: int) -> SwaModel:
        """A model that frees as the installed release does."""
        how = swa_pool.how_it_frees()
        return SwaModel(
            page_size, full_pages, swa_pages, resolves_at_once=how.resolves_at_once, whole_pages=how.whole_pages
        )

    def check(self) -> None:
        if hasattr(self, "model"):
            self._check_pages()
            self._check_mapping()

    def evidence(self) -> dict[str, Any]:
        if not hasattr(self, "allocator"):
            return {}
        full_to_swa_M = self.allocator.full_to_swa_index_mapping.numpy().copy()
        pools = (
            self._pool("full", IndexSpace.FULL_PAGE, self.allocator.full_attn_allocator),
            self._pool("swa", IndexSpace.SWA_PAGE, self.allocator.swa_attn_allocator),
        )
        return {"pools": pools, "mapping": IndexMapping(full_to_swa_M, self.page_size)}

    def aim(self) -> dict[str, float]:
        return {"pages that diverged": float(self.diverged)} if hasattr(self, "model") else {}

    def _check_pages(self) -> None:
        """Never both free and live, never neither, never twice on a free list: so the sums hold too."""
        model, owner = self.model, self.allocator
        self._check_side("full", IndexSpace.FULL_PAGE, owner.full_attn_allocator, model.full_ids, model.full_free)
        self._check_side("swa", IndexSpace.SWA_PAGE, owner.swa_attn_allocator, model.swa_ids, model.swa_free)

    def _check_side(self, name: str, space: IndexSpace, sub: Any, ids: set[int], expected: set[int]) -> None:
        found = free_pages(sub)
        if len(found) != len(expected) or set(found) != expected:
            # The trap names what is on the list and should not be; what is not on it and should be, the model.
            live_N = np.array(sorted(ids - expected), dtype=np.int64)
            self.session.judge(FreeList(self._pool(name, space, sub), live_N))
            self.session.conclude()
            self.claim("page_is_free_or_live", False, f"{name} free list {sorted(found)}, wanted {sorted(expected)}")
        tokens = sub.available_size()
        if tokens != len(expected) * self.page_size:  # a text is made for a claim that does not hold
            self.claim("sizes_add_up", False, f"{name} has {tokens} tokens free")

    def _check_mapping(self) -> None:
        """Live and in the window: its SWA slot. Otherwise 0. The sentinel stays."""
        actual_M = self.allocator.full_to_swa_index_mapping.numpy()
        expected_M, loose_M = self.model.mapping()
        self.claim("sentinel_stays", actual_M[-1] == -1, lambda: f"the last mapping entry is {actual_M[-1]}, not -1")
        wrong = np.flatnonzero((actual_M != expected_M) & ~loose_M)
        if len(wrong):
            slot, found, wanted = int(wrong[0]), int(actual_M[wrong[0]]), int(expected_M[wrong[0]])
            name = "live_is_mapped" if wanted else "freed_is_unmapped"
            self.claim(name, False, f"full slot {slot} maps to SWA slot {found}, not {wanted}")

    def room(self, call: str, full: int, swa: int, handed: Any) -> Any:
        """A refusal must be due, and so must slots."""
        fits = self.model.fits(full, swa)
        self.cover("full_exhausted", full > len(self.model.full_free))
        self.cover("swa_exhausted", swa > len(self.model.swa_free))
        if (handed is not None) != fits:
            self.claim("refused_only_when_full", not fits, f"{call} of {full} pages was refused")
            self.claim("handed_out_only_what_is_there", False, f"{call} of {full} pages, {swa} SWA pages")
        return handed

    def append(self, chunks: dict[int, int], handed: Any, before: int = 0) -> None:
        """Give the model what was handed out, after requiring that it was there to be handed out. before: leading
        tokens that get no SWA slot."""
        full_N = handed.numpy().copy()
        swa_N = self.call(self.allocator.translate_loc_from_full_to_swa, handed).numpy()
        if len(full_N) != sum(chunks.values()):
            self.claim("as_many_as_asked", False, f"{len(full_N)} slots for {chunks}")
        self.cover("batched", len(chunks) > 1)
        ends = np.cumsum(list(chunks.values()))[:-1]
        for rid, full, swa in zip(chunks, np.split(full_N, ends), np.split(swa_N, ends), strict=True):
            self._append_one(rid, full, swa, before)

    def _append_one(self, rid: int, full_N: IntArray, swa_N: IntArray, before: int) -> None:
        model, request = self.model, self.model.requests[rid]
        request.evicted = max(request.evicted, before)
        for full, swa in zip(full_N.tolist(), swa_N.tolist(), strict=True):
            position = len(request.slots)
            page, offset = divmod(full, self.page_size)
            swa_page, swa_offset = divmod(swa, self.page_size)
            in_window = position >= before
            # Once a token: a text is made for a claim that does not hold.
            if in_window and swa_offset != offset:
                self.claim("slots_agree_in_their_page", False, f"slot {full} has {swa}")
            if position % self.page_size:
                if full != request.last_loc + 1:
                    self.claim("page_is_filled_in_order", False, f"slot {full} after {request.last_loc}")
                if in_window and model.swa_of.get(page) != swa_page:
                    self.claim("page_has_one_swa_page", False, f"full page {page} has a second SWA page {swa_page}")
            else:
                if offset:
                    self.claim("page_is_filled_in_order", False, f"a new page begins at slot {full}")
                self._begin_page(page, swa_page if in_window else None)
            request.slots.append(full)
            model.loose.discard(full)
        request.committed = len(request.slots)

    def _begin_page(self, page: int, swa_page: int | None) -> None:
        model = self.model
        if page not in model.full_free:
            self.claim("new_page_was_free", False, f"full page {page} has an owner")
        if swa_page is not None:
            if swa_page not in model.swa_free:
                self.claim("new_page_was_free", False, f"SWA page {swa_page} has an owner")
            self.diverged += page != swa_page
            self.cover("diverged", page != swa_page)
        self.cover("recycled", page in model.freed_once)
        self.cover("last_page", page == max(model.full_ids))
        model.take(page, swa_page)

    def _pool(self, name: str, space: IndexSpace, sub: Any) -> PoolView:
        free_N = np.array(free_pages(sub), dtype=np.int64)
        return PoolView(name, space, self.page_size, sub.size // self.page_size + 1, free_N)
