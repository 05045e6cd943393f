"""sglang's TRTLLMHAAttnBackend: the tables it makes for the target, a frozen-KV draft and an EAGLE draft.

Real pools, allocator, request rows, runners, frozen-KV worker and FrozenKVMTPCudaGraphRunner; two attention layers in
place of a model. Steps are taken eagerly, or through graph buffers captured at one batch size and replayed at another.
Beside the traps, every kernel call is judged by what it would read: the K of each token is its id, so a key in the
window is that request's token of that position or a defect, whatever any table says.
"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import precondition

from g4diag.fuzz.backend_requests import step_of
from g4diag.fuzz.backend_steps import reading_kernels
from g4diag.fuzz.contract import Books, Machine, Sink
from g4diag.fuzz.prepared_batches import PREPARED, PreparedBatches
from g4diag.fuzz.rules import initialize, rule
from g4diag.fuzz.strategies import backend_sizes, lengths, of_release, paddings, requests, tokens
from g4diag.hooks.install import Hook
from g4diag.stack.drive.allocation_kernels import use_interpreter
from g4diag.stack.drive.backend_fixture import Rig, Sizes
from g4diag.stack.drive.swa_pool import int64
from g4diag.stack.drive.table_kernels import has_table_kernels

_PAGE_SIZES = (16, 32, 64)


def _interpreted() -> tuple[bool, ...]:
    """One example in eight, where there are kernels to interpret."""
    return (*[False] * 7, True) if has_table_kernels() else ()


_someone_lives = precondition(lambda self: self.held)


class BackendMachine(PreparedBatches):
    """Requests come, grow and go as on a server with speculation. bounded: no request is so long that its drafts pass
    the tables' width. 0.5.13 sizes those of graphs by the context alone (as sglang #35985), later releases all, and the
    last verify of the longest request that the scheduler admits reads past them: tests/fuzz lifts the bound and finds
    that."""

    bounded = True
    attention = "trtllm_mha"

    @initialize(
        **backend_sizes(_PAGE_SIZES),
        **of_release(interpreted=_interpreted),
    )
    def start(
        self,
        page_size: int,
        pages: tuple[int, int],
        window: int,
        context_pages: int,
        short_of: int,
        drafts: int,
        others: int,
        wrapped: bool,
        verify_in: str,
        interpreted: bool = False,
        topk: int = 1,
    ) -> None:
        """short_of: tokens that the context lacks of whole pages. others: full pages of a request that nobody steps,
        all but the last without an SWA page. interpreted: sglang's kernels that make tables go by their interpreter."""
        use_interpreter(interpreted)
        self.page_size = page_size
        width = context_pages * page_size
        sizes = Sizes(page_size, *pages, width - short_of, window, drafts, verify_in, topk)
        self.begin(self.call(Rig, sizes, wrapped, self.attention))
        self.allocator, self.model = self.rig.allocator, self.model_of(page_size, *pages)
        self.diverged = 0
        self.drafted = {}
        self.longest = min(sizes.context - 3, width - drafts) if self.bounded else sizes.context - 3
        if others := min(others, pages[0] - 1):
            self._others(others * page_size)
        self.cover_page_size(page_size)
        self.cover("wrapped", wrapped)
        self.cover("interpreted", interpreted)

    @rule(lengths=lengths(3, 4))
    def admit(self, lengths: list[int]) -> None:
        """The first chunks of new requests, as far as there are rows."""
        taken = {}
        for length in lengths:
            if (rid := self._take_row()) is not None:
                taken[rid] = length
        self._admit(taken)

    @_someone_lives
    @rule(picked=requests(max_size=2), length=tokens(2))
    def chunk(self, picked: list[int], length: int) -> None:
        """The next chunk of requests in prefill."""
        self._extend({rid: room for rid in picked if (room := min(length, self._room(rid)))})

    @_someone_lives
    @rule(picked=requests(), padding=paddings())
    def decode(self, picked: list[int], padding: int | None) -> None:
        """One token each."""
        picked = [rid for rid in picked if self._room(rid)]
        if picked and self._reserve(picked, 1):
            ends = [self._committed(rid) + 1 for rid in picked]
            self.target_step(step_of("DECODE", picked, [end - 1 for end in ends], 1, ends, ends), padding)
            self._commit(dict.fromkeys(picked, 1))

    @_someone_lives
    @rule(picked=requests(), accepted=st.integers(1, 6), padding=paddings())
    def verify(self, picked: list[int], accepted: int, padding: int | None) -> None:
        """Drafts looked at by the target, of which some are accepted."""
        drafts = self.rig.sizes.drafts
        if self._reserve(picked, drafts):
            starts = [self._committed(rid) for rid in picked]
            keys = [start + drafts for start in starts]
            self.target_step(step_of("TARGET_VERIFY", picked, starts, drafts, starts, keys), padding)
            self.cover("longest_replayed", padding is not None and max(starts) == self.longest)
            self._commit({rid: min(accepted, drafts, self._room(rid)) for rid in picked})

    @_someone_lives
    @rule(picked=requests(), graph=st.booleans())
    def draft(self, picked: list[int], graph: bool) -> None:
        """The frozen-KV draft: its queries are past the last key, and no key of theirs is written."""
        ends = [self._committed(rid) for rid in picked]
        self.frozen_step(step_of("FROZEN_DECODE", picked, ends, 1, ends, ends), graph=graph)

    @_someone_lives
    @rule(picked=requests(), accepted=st.integers(1, 6), padding=paddings())
    def draft_of_its_own(self, picked: list[int], accepted: int, padding: int | None) -> None:
        """The EAGLE draft: one token after the other, the target's verify, and K/V of its own of what was accepted."""
        drafts = self.rig.sizes.drafts
        if not self._reserve(picked, drafts):
            return
        self._catch_up([rid for rid in picked if not self.drafted.get(rid)], None)
        self._catch_up([rid for rid in picked if self.drafted[rid] < self._committed(rid)], padding)
        ends = [self._committed(rid) for rid in picked]
        steps = []
        for ahead in range(drafts - 1):
            starts = [end + ahead for end in ends]
            keys = [start + 1 for start in starts]
            steps.append(step_of("DRAFT_DECODE", picked, starts, 1, ends, keys, ahead))
        self.twin_decode(steps, padding)
        self.verify(picked, accepted, padding)
        self._catch_up([rid for rid in picked if self.drafted[rid] < self._committed(rid)], padding)

    @_someone_lives
    @rule()
    def slide(self) -> None:
        """free_swa of whole pages that no query to come can see."""
        for rid in self.held:
            first = self._committed(rid) - 1 - self.rig.sizes.window
            upto = max(0, first) // self.page_size * self.page_size
            if upto > self.model.requests[rid].evicted:
                self.call(self.allocator.free_swa, int64(self.model.evict(rid, upto)))
                self.cover("window_crossed")

    @_someone_lives
    @rule(picked=requests(max_size=2))
    def finish(self, picked: list[int]) -> None:
        """Requests leave, and their rows and pages are others' next."""
        for rid in picked:
            self._give_back(rid)


def _books() -> tuple[Any, ...]:
    from g4diag.stack.probes.handed_out import HandedOut
    from g4diag.stack.probes.request_rows import RequestRows

    return HandedOut(), RequestRows()


def _probes(sink: Sink, books: Books) -> list[Hook]:
    from g4diag.stack.probes.page_table import PageTableProbe
    from g4diag.stack.probes.workers import Backends

    backends = Backends(lambda swap: None, books["mapping"], books["request rows"])
    return [*backends.hooks(), *PageTableProbe(backends, sink, rid_of=lambda row: f"row{row}").hooks()]


MACHINE = Machine(
    name="backend-metadata",
    subject="TRTLLMHAAttnBackend, eager and graph metadata, and FrozenKVMTPCudaGraphRunner",
    drives=BackendMachine,
    goals=(
        *("diverged", "recycled", "window_crossed", "batched", "wrapped", "padding_rows", "replayed_smaller"),
        "longest_replayed",
        *("extend_eager", "decode_eager", "decode_graph", "target_verify_eager", "target_verify_graph"),
        *("draft_extend_eager", "draft_extend_graph", "draft_decode_eager", "draft_decode_graph"),
        *("frozen_decode_eager", "frozen_decode_graph"),
        *PREPARED,
    ),
    release_goals=lambda: ("interpreted",) if has_table_kernels() else (),
    oracle=(
        # First what explains the others, where several break in one read: whose rows, pages of which size.
        *("request_row_is_of_its_request", "page_size_is_the_pools"),
        *("page_table_stays_in_pool", "page_table_in_layer_space", "page_in_window_is_mapped"),
        *("table_is_wide_enough", "table_is_of_this_step"),
        *("mapping_is_what_was_handed_out", "window_is_the_models"),
    ),
    probes=_probes,
    books=_books,
    page_sizes=_PAGE_SIZES,
    steps=30,
    surroundings=reading_kernels,
)
