"""The steps that both cache machines share: prompts of shared prefixes, iterations, aborts, a flush."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis.stateful import precondition

from g4diag.fuzz.cache_invariants import CacheInvariants
from g4diag.fuzz.rules import initialize, rule
from g4diag.fuzz.strategies import iterations, of_release, prompts, running, windows
from g4diag.stack.drive import cache_server, spec_inputs
from g4diag.stack.drive.allocation_kernels import switchable_with_rows, use_interpreter
from g4diag.stack.drive.cache_server import DRAFT_TOKENS, VOCAB, Shape

PAGE_SIZES = (1, 16, 64)
GOALS = (
    *("chunked", "batched_prefill", "readmitted", "retracted", "refused", "window_crossed", "overallocated"),
    *("rejected", "finished", "finished_in_prefill", "aborted", "flushed", "overlap", "speculative", "plain"),
    *("window_below_page", "window_above_page"),
)


def _intervals() -> tuple[int, ...]:
    return (1, 4, 16, 128) if cache_server.can_wait_to_evict() else ()


def release_goals() -> tuple[str, ...]:
    """What the installed release can be told and another cannot."""
    cores = tuple(f"core_{core}" for core in cache_server.tree_cores())
    return (*cores, *(("eviction_waits",) if cache_server.can_wait_to_evict() else ()))


def books() -> tuple[Any, ...]:
    """What both machines have written down."""
    from g4diag.stack.probes.handed_out import HandedOut
    from g4diag.stack.probes.request_rows import RequestRows

    return HandedOut(), RequestRows()


@contextmanager
def surroundings() -> Iterator[None]:
    """The kernels by their fast ways, and the environment, through which a release is told things, as before."""
    spec_inputs.eagle_draft()  # its module is imported before the clock runs
    with cache_server.environment_kept(), switchable_with_rows():
        yield


class CacheMachine(CacheInvariants):
    """A scheduler over one kind of cache."""

    shared: ClassVar[bool]  # whether prefixes are shared, in a radix tree

    @initialize(
        sizes=windows(PAGE_SIZES),
        pages=st.sampled_from([(full, swa) for full in range(13) for swa in range(9)]),
        chunk_pages=st.integers(0, 2),
        eagle=st.booleans(),
        overlap=st.booleans(),
        length=st.integers(0, 48),
        **of_release(core=cache_server.tree_cores, interval=_intervals),
    )
    def start(
        self,
        sizes: tuple[int, int],
        pages: tuple[int, int],
        chunk_pages: int,
        eagle: bool,
        overlap: bool,
        length: int,
        core: str = "",
        interval: int | None = None,
    ) -> None:
        """pages: full and SWA pages beyond what one request needs. length: new tokens of a request, in sixteenths of a
        page."""
        use_interpreter(False)
        page, window = sizes
        unit = max(page, 4)  # a page, or so much that a run of pages of 1 is not all edges
        self.page_size, self.longest_prompt = page, 5 * unit
        new_tokens = max(1, length * unit // 16)
        context = self.longest_prompt + 2 * unit + new_tokens
        chunk = chunk_pages * unit
        swa = window + 2 * page + max(chunk or context, new_tokens) + 2 * DRAFT_TOKENS
        full_pages, swa_pages = (-(-tokens // page) + 1 for tokens in (context + 2 * unit, swa))
        shape = Shape(
            page_size=page,
            full_pages=full_pages + pages[0] * (unit // page),
            swa_pages=min(swa_pages, full_pages) + pages[1] * (unit // page),
            window=window,
            chunk=chunk,
            eagle=eagle,
            overlap=overlap,
            new_tokens=new_tokens,
            context=context,
            core=core,
            interval=interval,
        )
        self.begin(shape, self.call(cache_server.start, shape, shared=self.shared, live=self.holders))
        self.texts = [[i % (VOCAB - 4) + 3 for i in range(self.longest_prompt)]]
        self.cover_page_size(page)
        self.cover("speculative" if eagle else "plain")
        self.cover("overlap", overlap)
        self.cover("window_below_page", window < page)
        self.cover("window_above_page", window > page)
        self.cover(f"core_{core}", bool(core))
        self.cover("eviction_waits", interval not in (None, 1))

    @rule(asked=prompts(3), token=st.integers(0, 2))
    def submit(self, asked: list[tuple[int, int, int, int]], token: int) -> None:
        """Requests join the queue, and an iteration."""
        for text, shared, own, last in asked:
            self.enqueue([*self.texts[text][: min(shared, self.longest_prompt)], *[last] * own])
        self.iterate(token, 1)

    @precondition(lambda self: self.has_work())
    # A page and a little: the window is evicted once a page, and what comes soon after that is what matters.
    @rule(
        times=iterations(),
        token=st.integers(0, 2),
        accepted=st.integers(1, DRAFT_TOKENS),
    )
    def run(self, times: int, token: int, accepted: int) -> None:
        """Iterations, until the scheduler is idle."""
        for _ in range(times):
            if not self.iterate(token, accepted):
                break
            self.session.conclude()

    @precondition(lambda self: self.has_running())
    @rule(picked=running(), token=st.integers(0, 2))
    def abort(self, picked: list[str], token: int) -> None:
        """Running requests finish with the next result."""
        self.finish_next(picked)
        self.iterate(token, 1)
        self.cover("aborted", len(picked))

    @precondition(lambda self: self.waiting)
    @rule()
    def forget_waiting(self) -> None:
        """Those in the queue are aborted, and an iteration."""
        self.waiting.clear()
        self.iterate(0, 1)

    @precondition(lambda self: self.used and not (self.reqs or self.flight or self.last))
    @rule()
    def flush(self) -> None:
        """An idle server's cache is flushed."""
        self.waiting.clear()
        self.call(self.server.cache.reset)
        self.call(self.server.request_pool.clear)
        self.call(self.server.allocator.clear)
        self.used = False
        self.cover("flushed")
