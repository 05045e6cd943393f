"""Each claim of the cache machines' own breaks when what it claims does, and by its own name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

pytest.importorskip("sglang")

from g4diag.fuzz.cache_invariants import PrefixHashes, _each_once
from g4diag.fuzz.machines.swa_radix_cache import MACHINE as RADIX
from g4diag.fuzz.session import Broken, opened
from g4diag.hooks.anchors import has_module
from g4diag.stack.drive import unified_tree
from g4diag.stack.drive.cache_server import can_wait_to_evict
from g4diag.stack.drive.request_state import protected_len
from g4diag.stack.drive.unified_tree import Slots, among

PAGE, WINDOW = 16, 40
slots_only = pytest.mark.skipif(
    has_module("sglang.srt.mem_cache.swa_radix_cache"),
    reason="its tree shows nodes",
)


def running() -> Any:
    """Two requests that decode, the second over a prefix that the first, which has finished, left in the tree."""
    state = RADIX.drives()
    at_once = {"interval": 1} if can_wait_to_evict() else {}
    sizes = {"sizes": (PAGE, WINDOW), "pages": (8, 8), "chunk_pages": 0, "length": 48}
    state.start(eagle=False, overlap=False, **sizes, **at_once)
    state.submit(asked=[(0, 64, 40, 0)], token=0)
    state.run(times=3, token=0, accepted=1)
    state.abort(picked=["r0"], token=0)
    state.submit(asked=[(1, 64, 2, 1), (0, 0, 20, 2)], token=1)
    state.run(times=2, token=1, accepted=1)
    state.holds()
    assert len(state.holders()) == 2 and max(protected_len(req) for req in state.holders()) > WINDOW
    return state


def _on_free_list(state: Any) -> Any:
    return state.server.allocator.full_attn_allocator


def loses_a_page(state: Any) -> None:
    _on_free_list(state).free_pages = _on_free_list(state).free_pages[1:]


def has_a_page_twice(state: Any) -> None:
    _on_free_list(state).free_pages[0] = _on_free_list(state).free_pages[1]


def frees_a_live_page(state: Any) -> None:
    req = state.holders()[0]
    _on_free_list(state).free_pages[0] = int(state.row(req)[protected_len(req)]) // PAGE


def has_a_page_of_two(state: Any) -> None:
    one, other = state.holders()
    state.row(one)[protected_len(one)] = state.row(other)[protected_len(other)]


@pytest.mark.parametrize(
    ("breaks", "claim"),
    [
        (loses_a_page, "page_is_free_or_live"),
        (has_a_page_twice, "free_list_is_free"),
        (frees_a_live_page, "free_list_is_free"),
        (has_a_page_of_two, "model:page_has_one_owner"),
    ],
)
def test_a_page_without_exactly_one_owner_is_named(breaks: Callable[[Any], None], claim: str) -> None:
    with opened(RADIX):
        state = running()
        breaks(state)
        with pytest.raises(Broken, match=f"^{claim}: "):
            state.check()


@pytest.mark.parametrize(("book", "claim"), [("full_book_M", "prefix"), ("swa_book_M", "window")])
def test_anothers_tokens_in_a_slot_that_is_read_are_named(book: str, claim: str) -> None:
    with opened(RADIX):
        state = running()
        getattr(state, book)[:] += 1
        with pytest.raises(Broken, match=f"^model:{claim}_is_its_own: r1: position "):
            state.run(times=1, token=1, accepted=1)


def _without_the_first(found: Slots) -> Slots:
    parts = (found.full_N, found.has_swa_N, found.full_locked_N, found.swa_locked_N)
    return Slots(*(part[1:] for part in parts))


@slots_only
@pytest.mark.parametrize(
    ("tells", "claim"),
    [
        (_without_the_first, "tree_is_whole_pages"),
        (lambda found: replace(found, has_swa_N=~found.has_swa_N), "(model:)?(tombstone_has_no_swa|page_in_window.*)"),
        (lambda found: replace(found, full_locked_N=found.full_locked_N & False), "locks_are_balanced"),
        (lambda found: replace(found, full_locked_N=found.full_locked_N | True), "locks_are_balanced"),
        (lambda found: replace(found, swa_locked_N=found.swa_locked_N & False), "window_is_locked"),
        (lambda found: replace(found, swa_locked_N=found.swa_locked_N | True), "locks_are_balanced"),
    ],
)
def test_a_tree_that_is_not_as_its_requests_say_is_named(
    tells: Callable[[Slots], Slots], claim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = unified_tree.slots
    with opened(RADIX):
        state = running()
        monkeypatch.setattr(unified_tree, "slots", lambda cache: tells(honest(cache)))
        with pytest.raises(Broken, match=rf"^(model:)?{claim}: "):
            state.check()


@slots_only
def test_a_prefix_that_is_not_what_the_tree_has_is_named() -> None:
    with opened(RADIX):
        state = running()
        req = max(state.holders(), key=protected_len)
        state.row(req)[0] += 1
        with pytest.raises(Broken, match=r"^model:locked_prefix_stays: r\d reads 1 slots "):
            state.check()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 2), max_size=8)), max_size=8))
def test_hashes_told_bit_by_bit_are_those_told_at_once(asked: list[tuple[str, list[int]]]) -> None:
    hashes = PrefixHashes()
    for rid, tokens in asked:
        at_once = list(accumulate(tokens, lambda h, token: hash((h, token)) | 1, initial=1))[1:]
        assert hashes.of(rid, tokens).tolist() == at_once


@given(st.lists(st.integers(0, 20)), st.lists(st.integers(0, 20)))
def test_among_is_what_numpy_says(ids: list[int], others: list[int]) -> None:
    ids_N, others_N = np.array(ids, dtype=np.int64), np.array(others, dtype=np.int64)
    assert among(ids_N, others_N).tolist() == np.isin(ids_N, others_N).tolist()


@given(st.integers(2, 12), st.sampled_from([1, 4]), st.data())
def test_pages_are_there_once_each_as_counted_one_by_one(num_pages: int, page: int, data: st.DataObject) -> None:
    pages = list(data.draw(st.permutations(range(1, num_pages))))
    some = st.lists(st.integers(-1, num_pages), max_size=1)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(pages)), min_size=2, max_size=2)))
    parts = [pages[: cuts[0]], pages[cuts[0] : cuts[1]], pages[cuts[1] :]]
    free, *owners = [[*part, *data.draw(some)] for part in parts]
    owned = [np.array([n * page + i for n in owner for i in range(page)], dtype=np.int64) for owner in owners]
    counts = Counter([*free, *(n for owner in owners for n in set(owner))])
    once = counts == Counter(range(1, num_pages))
    assert _each_once(num_pages, page, np.array(free, dtype=np.int64), owned) == once
    event(f"once: {once}")
