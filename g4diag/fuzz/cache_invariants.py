"""What must hold of a prefix cache and of the requests it serves, told from outside: who owns each page, what each
position reads, and upstream's own sums.

Two books say whose K/V a slot holds, one a pool: each forward enters what it would have written, a hash of the tokens
up to and with that position. A later forward must find its own tokens' hash in every slot that it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import numpy as np

from g4diag.fuzz.cache_steps import CacheSteps
from g4diag.model import (
    AttentionRead,
    BoolArray,
    FreeList,
    IndexMapping,
    IndexSpace,
    IntArray,
    LayerKind,
    PoolView,
    RowOwners,
)
from g4diag.model.remade import remade
from g4diag.stack.drive.cache_server import DRAFT_TOKENS, CacheServer, Shape, layer_window
from g4diag.stack.drive.request_state import evicted_len, kv_allocated_len, prefill_end, protected_len, request_row
from g4diag.stack.drive.swa_pool import free_page_ids

Owner = tuple[object, IntArray]  # whose, as str() tells it
_NOTHING_N = np.zeros(0, dtype=np.int64)


class CacheInvariants(CacheSteps):
    """Base of a machine: books at each launch, and claims after each step."""

    def begin(self, shape: Shape, server: CacheServer) -> None:
        super().begin(shape, server)
        self.full_book_M = np.zeros(server.allocator.size_full + shape.page_size, dtype=np.int64)
        self.swa_book_M = np.zeros(server.allocator.size_swa + shape.page_size, dtype=np.int64)
        self.window = layer_window(shape)
        self._read = AttentionRead(
            step=0,
            worker="target",
            phase="",
            path="eager",
            backend=type(server.cache).__name__,
            layer_id=0,
            layer_kind=LayerKind.SWA,
            window_left=-1,
            pool=replace(self.pool("swa"), free_pages_N=None),  # a dump has the free list of its own moment
            table_space=IndexSpace.SWA_PAGE,
            page_table_BP=_NOTHING_N,
            seq_lens_B=_NOTHING_N,
        )
        self.hashes = PrefixHashes()
        self._hosts: dict[str, tuple[Any, IntArray]] = {}

    def check(self) -> None:
        if hasattr(self, "server"):
            self.check_cache()
            self._check_pages("full", list(self.full_owners()))
            self._check_pages("swa", list(self.swa_owners()))
            self._check_sums()

    def check_cache(self) -> None:
        """What must hold of this cache beyond its pages."""

    def known_stale(self, req: Any, start: int) -> BoolArray:
        """bool[start]: positions that a defect known of this sglang lets read another's K/V."""
        return np.zeros(start, dtype=np.bool_)

    def cached(self) -> Iterator[tuple[object, IntArray, bool]]:
        """(whose, full slots, whether they claim SWA slots) of what the cache holds for no request in particular."""
        yield from ()

    def full_owners(self) -> Iterator[Owner]:
        """(whose, full slots) of everything that has any."""
        for whose, slots_N, _ in self.cached():
            yield whose, slots_N
        for req in self.holders():
            yield req.rid, self.row(req)[protected_len(req) : kv_allocated_len(req)]

    def swa_owners(self) -> Iterator[Owner]:
        """(whose, SWA slots) of everything that has any."""
        mapping_M = self.mapping()
        for whose, slots_N, is_alive in self.cached():
            if is_alive:
                yield whose, mapping_M[slots_N]
        for req in self.holders():
            start = max(protected_len(req), evicted_len(req))
            yield req.rid, mapping_M[self.row(req)[start : kv_allocated_len(req)]]

    def row(self, req: Any) -> IntArray:
        """The request's row of req_to_token: full slots by position."""
        slots_N: IntArray = self._host("rows", self.server.request_pool.req_to_token)[request_row(req)]
        return slots_N

    def mapping(self) -> IntArray:
        """full_to_swa_index_mapping as it is now."""
        return self._host("mapping", self.server.allocator.full_to_swa_index_mapping)

    def _host(self, name: str, tensor: Any) -> IntArray:
        """The same memory as an array, made once for as long as sglang has this very tensor."""
        known = self._hosts.get(name)
        if known is None or known[0] is not tensor:
            known = self._hosts[name] = tensor, tensor.numpy()
        return known[1]

    def launched_extend(self, batch: Any) -> None:
        for req, start in zip(batch.reqs, batch.prefix_lens, strict=True):
            tokens = [*req.origin_input_ids, *req.output_ids][: prefill_end(req)]
            hashes_N, row_N, of = self.hashes.of(req.rid, tokens), self.row(req), self._rows_of(batch, [req])
            self.read([req.rid], [row_N], "extend", np.array([len(tokens)]), len(tokens) - start, of)
            self._requires_own(req, row_N, hashes_N, start)
            self._writes(row_N, start, hashes_N[start:])

    def launched_decode(self, batch: Any, token: int, accepted: int) -> None:
        is_verify = self.shape.eagle
        queries = DRAFT_TOKENS if is_verify else 1
        ends_B = batch.seq_lens.numpy() + (queries if is_verify else 0)
        rids, rows = [req.rid for req in batch.reqs], [self.row(req) for req in batch.reqs]
        phase, of = "target_verify" if is_verify else "decode", self._rows_of(batch, batch.reqs)
        self.read(rids, rows, phase, ends_B, queries, of)
        for req, row_N, end in zip(batch.reqs, rows, ends_B.tolist(), strict=True):
            start = end - queries
            # With overlap the tokens of the step before are on the device only.
            known = [*req.origin_input_ids, *req.output_ids, *self._in_flight(req)]
            if len(known) != start + 1:
                self.claim("lengths_agree", False, f"{req.rid} has {len(known)} tokens, {start} with K/V")
            if end > (slots := kv_allocated_len(req)):
                self.claim("room_for_queries", False, f"{req.rid} has {slots} slots")
            hashes_N = self.hashes.of(req.rid, [*known, *[token] * (accepted - 1)])
            self._requires_own(req, row_N, hashes_N, start)
            written_N = hashes_N[start:]
            if garbage := end - len(hashes_N):
                written_N = np.concatenate([written_N, np.full(garbage, -1, dtype=np.int64)])
            self._writes(row_N, start, written_N)

    def _in_flight(self, req: Any) -> list[int]:
        return self.flight.tokens.get(req.rid, []) if self.flight is not None else []

    def read(
        self,
        rids: list[str],
        rows: list[IntArray],
        phase: str,
        ends_B: IntArray,
        queries: int,
        of: tuple[IntArray, RowOwners | None] | None = None,
    ) -> None:
        """Let the traps judge the page table that a sliding layer would be handed, made as a backend makes it. rows:
        full slots by position, of each request. ends_B: keys a row, the queries included. of: request rows that a batch
        names, and whose they are."""
        page = self.shape.page_size
        last = max(ends_B.tolist())
        full_BP = np.array([row[:last:page] for row in rows], dtype=np.int64)
        if page > 1:
            full_BP //= page
        mapping = IndexMapping(self.mapping().copy(), page)
        view = remade(
            self._read,
            step=self.session.steps,
            phase=phase,
            window_left=self.window,
            page_table_BP=mapping.swa_pages(full_BP).astype(np.int32),
            seq_lens_B=ends_B.astype(np.int32),
            q_len=queries,
            rids=tuple(rids),
            req_rows_B=None if of is None else of[0],
            full_page_table_BP=full_BP,
            mapping=mapping,
            batch_rows=len(rids),
            handed_out_BP=self._handed_out(full_BP),
            row_owners=None if of is None else of[1],
        )
        self.session.judge(view)
        self.session.conclude()

    def _handed_out(self, full_BP: IntArray) -> IntArray | None:
        page, pool = self.shape.page_size, self.server.allocator.get_kvcache()
        slots_BP: IntArray | None = self.session.books["mapping"].slots(pool, full_BP * page)
        return None if slots_BP is None else slots_BP // page

    def _rows_of(self, batch: Any, reqs: list[Any]) -> tuple[IntArray, RowOwners | None]:
        """int64[B]: the request rows by which the batch knows these of its requests; and whose they are."""
        rows_B = batch.req_pool_indices.numpy()
        rows_B = rows_B.copy() if reqs is batch.reqs else rows_B[[batch.reqs.index(req) for req in reqs]]
        book, pool, rids = self.session.books["request rows"], self.server.request_pool, [req.rid for req in reqs]
        book.built(rids, reqs, pool)
        return rows_B, book.of(pool, SimpleNamespace(rids=rids, batch_size=len(rids)), rows_B)

    def _requires_own(self, req: Any, row_N: IntArray, hashes_N: IntArray, start: int) -> None:
        """Positions before `start` hold this request's tokens: all of them in the full pool, the window's in the
        SWA pool."""
        slots_N = row_N[:start]
        (wrong,) = (self.full_book_M[slots_N] != hashes_N[:start]).nonzero()
        if len(wrong):
            wrong = wrong[~self.known_stale(req, start)[wrong]]
        if len(wrong):
            self.claim("prefix_is_its_own", False, f"{req.rid}: {self._whose('full', slots_N, wrong)}")
        first = max(0, start - self.window)
        swa_N = self.mapping()[slots_N[first:]]
        (wrong,) = (self.swa_book_M[swa_N] != hashes_N[first:start]).nonzero()
        if len(wrong):
            self.claim("window_is_its_own", False, f"{req.rid}: {self._whose('SWA', swa_N, wrong, first)}")

    @staticmethod
    def _whose(pool: str, slots_N: IntArray, wrong: IntArray, first: int = 0) -> str:
        at = int(wrong[0])
        return f"position {at + first} reads {pool} slot {int(slots_N[at])}, which holds other tokens' K/V"

    def _writes(self, row_N: IntArray, start: int, hashes_N: IntArray) -> None:
        slots_N = row_N[start : start + len(hashes_N)]
        self.full_book_M[slots_N] = hashes_N
        self.swa_book_M[self.mapping()[slots_N]] = hashes_N

    def _check_pages(self, name: str, owners: list[Owner]) -> None:
        """Each page is free or has one owner."""
        page, free_N = self.shape.page_size, free_page_ids(self._side(name))
        if _each_once(self._side(name).size // page + 1, page, free_N, [slots_N for _, slots_N in owners]):
            return
        pool = self.pool(name)
        pages = [np.unique(slots_N // page) for _, slots_N in owners]
        owned_N = np.concatenate([*pages, np.zeros(0, dtype=np.int64)])
        all_N = np.concatenate([owned_N, free_N])
        # The trap names a free list that holds what has an owner; two owners and none are the model's.
        self.session.judge(FreeList(pool, np.unique(owned_N)))
        self.session.conclude()
        ids, counts = np.unique(all_N, return_counts=True)
        for twice in ids[counts > 1].tolist():
            whose = [who for (who, _), its in zip(owners, pages, strict=True) if twice in its]
            self.claim("page_has_one_owner", False, f"{name} page {twice} is had by {' and '.join(map(str, whose))}")
        lost = sorted(set(range(1, pool.num_pages)) - set(ids.tolist()))
        self.claim("page_is_not_lost", not lost, f"{name} pages {lost} are neither free nor anybody's")
        self.claim("page_is_of_its_pool", False, f"{name} pages {ids.tolist()} of 1 .. {pool.num_pages - 1}")

    def _check_sums(self) -> None:
        """Upstream's own invariant."""
        try:
            self.session.timed(self.server.checker.self_check_during_busy)
        except AssertionError as error:
            self.claim("sums_add_up", False, str(error))

    def pool(self, name: str) -> PoolView:
        """The "full" or "swa" pool with its free list."""
        sub, space = self._side(name), IndexSpace.SWA_PAGE if name == "swa" else IndexSpace.FULL_PAGE
        return PoolView(name, space, self.shape.page_size, sub.size // self.shape.page_size + 1, free_page_ids(sub))

    def _side(self, name: str) -> Any:
        """sglang's allocator of the "full" or "swa" pool."""
        allocator = self.server.allocator
        return allocator.swa_attn_allocator if name == "swa" else allocator.full_attn_allocator

    def evidence(self) -> dict[str, Any]:
        mapping = IndexMapping(self.mapping().copy(), self.shape.page_size)
        return {"pools": (self.pool("full"), self.pool("swa")), "mapping": mapping}


def _each_once(num_pages: int, page: int, free_N: IntArray, owned: list[IntArray]) -> bool:
    """Whether pages 1 .. num_pages-1 are there once each: on the free list, or among those of one owner's slots, of
    which any number may be in one page."""
    sizes = [len(slots_N) for slots_N in owned]
    pages_N = np.concatenate([*owned, free_N * page]) // page
    if np.count_nonzero(pages_N.view(np.uint64) >= num_pages):  # below 0 is far above any bound, without a sign
        return False
    owned_N, owner_N = pages_N[: len(pages_N) - len(free_N)], np.repeat(np.arange(1, len(owned) + 1), sizes)
    owner_M = np.zeros(num_pages, dtype=np.int64)
    owner_M[owned_N] = owner_N
    if np.count_nonzero(owner_M[owned_N] != owner_N):  # of a page's owners the last one stands there
        return False
    # As many as there are, an owner's once each, and all of them: then none is there twice.
    number = np.count_nonzero(owner_M) + len(free_N)
    owner_M[free_N] = -1
    return number == num_pages - 1 == np.count_nonzero(owner_M) and not owner_M[0]


class PrefixHashes:
    """Of each request and each of its positions a hash of the tokens up to and with it, never 0. What was hashed before
    is not hashed again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[list[int], IntArray]] = {}

    def of(self, rid: str, tokens: list[int]) -> IntArray:
        """int64[N]."""
        known, hashes_N = self._known.get(rid, ([], _NOTHING_N))
        if known != tokens[: len(known)]:
            known, hashes_N = [], _NOTHING_N
        if more := tokens[len(known) :]:
            last = int(hashes_N[-1]) if len(hashes_N) else 1
            hashed = list(accumulate(more, lambda h, token: hash((h, token)) | 1, initial=last))[1:]
            hashes_N = np.concatenate([hashes_N, np.array(hashed, dtype=np.int64)])
            self._known[rid] = tokens, hashes_N
        return hashes_N
