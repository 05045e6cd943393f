"""Allocator traps on sglang's real allocators: silent through a server's life, and each fired by its fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sglang")

import torch

from g4diag.hooks.install import install
from g4diag.model import Allocation, FreeList, MappingUpdate, Release, View
from g4diag.scenario.measure import judge_all
from g4diag.stack.drive.swa_pool import back_up, build, can_back_up, int64, put_back
from g4diag.stack.probes.allocation import AllocationProbe

ALLOCATORS = (Allocation, Release, FreeList, MappingUpdate)


class Watched:
    """Views so far; an allocator made while it is on is watched from its birth."""

    def __init__(self) -> None:
        self.views: list[View] = []
        self.probe = AllocationProbe(self.views.append, stock_every=1)

    def traps(self) -> set[str]:
        return {violation.trap for view in self.views for violation in judge_all(view)}

    def of(self, kind: type) -> list[Any]:
        return [view for view in self.views if isinstance(view, kind)]


@pytest.fixture
def watched() -> Iterator[Watched]:
    seen = Watched()
    with install("test", seen.probe.hooks()):
        yield seen


def allocator(page_size: int, pages: int = 8, need_sort: bool = False) -> Any:
    from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator
    from sglang.srt.mem_cache.allocator.token import TokenToKVPoolAllocator

    arguments = (torch.float32, "cpu", None, need_sort)
    if page_size == 1:
        return TokenToKVPoolAllocator(pages, *arguments)
    return PagedTokenToKVPoolAllocator(pages * page_size, page_size, *arguments)


def extend(made: Any, have: int, want: int, last: int) -> Any:
    """One request from `have` to `want` tokens."""
    prefix, lens = int64([have]), int64([want])
    return made.alloc_extend(prefix, prefix, lens, lens, int64([last]), want - have)


def hybrid() -> Any:
    return build(page_size=4, full_pages=8, swa_pages=6, need_sort=False)


backs_up = pytest.mark.skipif(not can_back_up(), reason="nothing backs an allocator up in this release")
each_kind = pytest.mark.parametrize("page_size", [1, 4])
each_order = pytest.mark.parametrize("need_sort", [False, True])


@each_kind
@each_order
def test_a_life_of_handing_out_and_taking_back_is_silent(page_size: int, need_sort: bool, watched: Watched) -> None:
    """To the last page, in free groups, and through clear."""
    made = allocator(page_size, need_sort=need_sort)
    for _ in range(3):
        slots = made.alloc(8 * page_size)
        assert made.alloc(page_size) is None
        made.free(slots[: 2 * page_size])
        made.free_group_begin()
        made.free(slots[2 * page_size : 3 * page_size])
        made.free(slots[3 * page_size :])
        assert made.alloc(page_size) is not None, "what the group frees is not there yet"
        made.free_group_end()
        assert made.alloc(3 * page_size) is not None
        made.clear()
    assert watched.traps() == set() and {type(view) for view in watched.views} == {Allocation, Release, FreeList}


@backs_up
@each_kind
@each_order
def test_a_backup_that_is_restored_is_silent(page_size: int, need_sort: bool, watched: Watched) -> None:
    made = allocator(page_size, need_sort=need_sort)
    for _ in range(3):
        slots = made.alloc(2 * page_size)
        state = back_up(made)
        again = made.alloc(3 * page_size)
        put_back(made, state)
        assert int(made.alloc(3 * page_size)[0]) == int(again[0]), "handed out twice, and rightly"
        made.free(slots)
        made.clear()
    assert watched.traps() == set() and {type(view) for view in watched.views} == {Allocation, Release, FreeList}


@backs_up
@each_kind
def test_restoring_an_older_backup_begins_the_book_anew(page_size: int, watched: Watched) -> None:
    made = allocator(page_size)
    older = back_up(made)
    made.alloc(page_size)
    back_up(made)
    made.alloc(page_size)
    put_back(made, older)
    assert made.alloc(8 * page_size) is not None and watched.traps() == set()


@each_kind
def test_an_allocator_met_in_mid_life_raises_no_false_alarm(page_size: int) -> None:
    made, seen = allocator(page_size), Watched()
    before = made.alloc(3 * page_size)
    with install("test", seen.probe.hooks()):
        made.free(before[:page_size])
        more = made.alloc(4 * page_size)
        made.free(torch.cat([before[page_size:], more]))
        made.free(more[:page_size])
    assert seen.traps() == {"free_of_live_only", "free_list_is_free"}
    assert len([v for view in seen.of(Release)[:-1] for v in judge_all(view)]) == 0


@pytest.mark.parametrize("page_size", [4, 16])
def test_decode_goes_on_in_its_page_and_a_rejected_draft_is_handed_out_again(page_size: int, watched: Watched) -> None:
    made = allocator(page_size)
    slots = extend(made, 0, page_size + 2, -1)
    again = extend(made, page_size + 1, page_size + 2, int(slots[-2]))
    assert int(again[0]) == int(slots[-1])
    lens = int64([page_size + 3])
    made.alloc_decode(lens, lens, again)
    assert watched.traps() == set() and {view.call for view in watched.of(Allocation)} == {
        "alloc_extend",
        "alloc_decode",
    }


def frees_twice(made: Any) -> None:
    slots = made.alloc(2 * made.page_size)
    made.free(slots)
    made.free(slots[: made.page_size])


def frees_the_dummy(made: Any) -> None:
    made.free(int64([0]))


def lists_a_live_page(made: Any) -> None:
    slots = made.alloc(made.page_size)
    made.free_pages = torch.cat([slots[:1] // made.page_size, made.free_pages])
    made.alloc(made.page_size)


def lists_a_page_twice(made: Any) -> None:
    made.free_pages = torch.cat([made.free_pages[:1], made.free_pages])
    made.alloc(2 * made.page_size)


def lists_a_page_past_the_pool(made: Any) -> None:
    made.free_pages[-1] += 1
    made.alloc(8 * made.page_size)


FAULTS = {
    frees_twice: {"free_of_live_only", "free_list_is_free"},
    frees_the_dummy: {"free_of_live_only", "free_list_is_free"},
    lists_a_live_page: {"slot_has_one_owner"},
    lists_a_page_twice: {"slot_has_one_owner", "page_is_handed_out_whole"},
    lists_a_page_past_the_pool: {"slot_inside_allocator", "page_is_free_or_live"},
}


@each_kind
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_fires_its_traps(fault: Callable[[Any], None], page_size: int, watched: Watched) -> None:
    fault(allocator(page_size))
    assert watched.traps() == FAULTS[fault]


def test_a_page_begun_in_the_middle_fires(watched: Watched) -> None:
    """alloc_extend is told that a page is the request's which nobody was given."""
    made = allocator(4)
    extend(made, 2, 4, 5 * 4 + 1)
    assert watched.traps() == {"page_is_handed_out_whole", "free_list_is_free"}


def test_a_hybrid_allocators_mapping_follows(watched: Watched) -> None:
    made = hybrid()
    slots = extend(made, 0, 10, -1)
    made.free_swa(slots[:4])
    lens = int64([11])
    more = made.alloc_decode(lens, lens, slots[-1:])
    made.free_group_begin()
    made.free(torch.cat([slots, more]))
    made.free_group_end()
    assert watched.traps() == set()
    updates = watched.of(MappingUpdate)
    assert [view.call for view in updates] == ["alloc_extend", "free_swa", "alloc_decode", "free_swa"]
    assert (updates[0].swa_slots_N > 0).all() and not updates[1].swa_slots_N.any()


def test_only_the_tail_of_a_prefill_elsewhere_has_swa_slots(watched: Watched) -> None:
    made = hybrid()
    prefix, lens = int64([0]), int64([12])
    for tail in (0, 4):
        made.alloc_extend_swa_tail(prefix, prefix, lens, lens, int64([-1]), 12, tail)
    (update,) = watched.of(MappingUpdate)
    assert watched.traps() == set() and list(update.swa_slots_N > 0) == [False] * 8 + [True] * 4


def test_unpaged_hybrid_allocators_map_too(watched: Watched) -> None:
    made = build(page_size=1, full_pages=8, swa_pages=6, need_sort=False)
    made.free(made.alloc(4))
    assert watched.traps() == set() and len(watched.of(MappingUpdate)) == 2


@pytest.mark.parametrize("call", ["alloc_extend", "free_swa", "free"])
def test_a_mapping_that_does_not_follow_fires(call: str, watched: Watched) -> None:
    made = hybrid()
    keeps = torch.zeros_like(made.full_to_swa_index_mapping)
    if call == "alloc_extend":
        made.full_to_swa_index_mapping = keeps.as_subclass(_Deaf)
        extend(made, 0, 6, -1)
    else:
        slots = extend(made, 0, 6, -1)
        made.full_to_swa_index_mapping = made.full_to_swa_index_mapping.as_subclass(_Deaf)
        if call == "free":
            made.free_swa = lambda index: None
        getattr(made, call)(slots)
    (bad,) = [violation for view in watched.views for violation in judge_all(view)]
    assert (bad.trap, bad.phase) == ("mapping_follows_allocation", call)


class _Deaf(torch.Tensor):
    """A mapping that forgets every write."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __setitem__(self, index: Any, value: Any) -> None:
        pass

    def index_fill_(self, dim: Any, index: Any, value: Any) -> torch.Tensor:
        return self


def test_views_wanted_are_the_only_ones_made() -> None:
    views: list[View] = []
    probe = AllocationProbe(views.append, {Allocation})
    assert not any("alloc_extend_swa_tail" in hook.target for hook in probe.hooks())
    with install("test", probe.hooks()):
        frees_twice(allocator(4))
    assert {type(view) for view in views} == {Allocation}


def test_a_server_with_a_frozen_draft_is_silent(healthy_views: tuple[View, ...]) -> None:
    """Chunked prefill, decode, eviction, the radix cache: upstream's own callers."""
    seen = Watched()
    seen.views = [view for view in healthy_views if isinstance(view, ALLOCATORS)]
    hold_all_and_are_silent(seen)


def test_a_server_whose_draft_has_its_own_pool_is_silent(watched: Watched) -> None:
    from g4diag.stack.drive import cpu
    from g4diag.stack.drive.own_pool_draft import OwnPoolDraft
    from g4diag.stack.drive.serving import Geometry, Serving

    def blind(query: torch.Tensor, **arguments: Any) -> torch.Tensor:
        return torch.zeros_like(query)

    with cpu.attention_kernels(blind, blind):
        serving = Serving(Geometry(), 0, algorithm="EAGLE")
        draft = OwnPoolDraft(serving)
        for rid, ids in serving.prompts():
            while not serving.admit(rid, ids):
                serving.release(serving.running.reqs[0])
            serving.decode()
            draft.eager()
            if len(serving.running.reqs) >= serving.geometry.live:
                serving.release(serving.running.reqs[0])
    hold_all_and_are_silent(watched)


def hold_all_and_are_silent(seen: Watched) -> None:
    assert seen.traps() == set()
    assert {type(view) for view in seen.views} == set(ALLOCATORS)
    assert {view.pool.name for view in seen.of(Release)} == {"full", "swa"}
    assert any(len(view.live_pages_N) for view in seen.of(FreeList))


def test_the_book_agrees_with_the_free_list(watched: Watched) -> None:
    made = allocator(4)
    made.free(made.alloc(20)[4:12])
    stock = watched.of(FreeList)[-1]
    assert sorted([*stock.live_pages_N, *stock.pool.free_pages_N]) == list(range(1, 9))
    assert stock.live_pages_N.dtype == np.int64
