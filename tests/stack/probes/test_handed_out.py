"""What was handed out, written down: the mapping's own word through a healthy life, and not of a changed one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sglang")

import torch

from g4diag.hooks.install import install
from g4diag.stack.drive.swa_pool import back_up, build, can_back_up, int64, put_back
from g4diag.stack.probes.handed_out import HandedOut

PAGE = 4


@pytest.fixture
def book() -> Iterator[HandedOut]:
    made = HandedOut()
    with install("test", made.hooks()):
        yield made


def hybrid(page_size: int = PAGE) -> Any:
    """A fresh allocator no page of which has the same number in both spaces."""
    made = build(page_size=page_size, full_pages=12, swa_pages=8, need_sort=False)
    made.swa_attn_allocator.alloc(page_size)
    return made


def extend(made: Any, have: int, want: int, last: int, tail: int | None = None) -> Any:
    prefix, lens = int64([have]), int64([want])
    arguments = (prefix, prefix, lens, lens, int64([last]), want - have)
    return made.alloc_extend(*arguments) if tail is None else made.alloc_extend_swa_tail(*arguments, tail)


def told(book: HandedOut, made: Any, slots: Any) -> list[int]:
    found = book.slots(made.get_kvcache(), slots.numpy())
    assert found is not None
    return list(found)


def mapped(made: Any, slots: Any) -> list[int]:
    return list(made.full_to_swa_index_mapping[slots].tolist())


def test_through_a_life_it_is_the_mappings_word(book: HandedOut) -> None:
    made = hybrid()
    slots = extend(made, 0, 10, -1)
    lens = int64([11])
    slots = torch.cat([slots, made.alloc_decode(lens, lens, slots[-1:])])
    assert told(book, made, slots) == mapped(made, slots) and all(told(book, made, slots))
    made.free_swa(slots[:PAGE])
    assert told(book, made, slots) == mapped(made, slots) and not any(told(book, made, slots[:PAGE]))
    made.set_full_to_swa_mapping(slots[:PAGE], made.swa_attn_allocator.alloc(PAGE))
    assert told(book, made, slots) == mapped(made, slots) and all(told(book, made, slots[:PAGE]))
    made.free_group_begin()
    made.free(slots)
    made.free_group_end()
    assert not any(told(book, made, slots))


@pytest.mark.parametrize("tail", [0, 4, 12])
def test_only_the_tail_of_an_extend_has_slots(tail: int, book: HandedOut) -> None:
    made = hybrid()
    slots = extend(made, 0, 12, -1, tail)
    assert told(book, made, slots) == mapped(made, slots)
    assert [slot > 0 for slot in told(book, made, slots)] == [False] * (12 - tail) + [True] * tail


def test_slots_that_somebody_took_from_the_sub_allocator_are_not_the_next_ones(book: HandedOut) -> None:
    """As a prefix cache does that gives a page its SWA half again."""
    made = hybrid()
    made.swa_attn_allocator.alloc(2 * PAGE)
    slots = extend(made, 0, 6, -1)
    assert told(book, made, slots) == mapped(made, slots) and all(told(book, made, slots))


def test_pages_of_one_token(book: HandedOut) -> None:
    made = hybrid(page_size=1)
    slots = made.alloc(4)
    assert told(book, made, slots) == mapped(made, slots) and all(told(book, made, slots))
    made.free(slots[1:2])
    assert [bool(slot) for slot in told(book, made, slots)] == [True, False, True, True]


def test_it_begins_anew_with_the_allocator(book: HandedOut) -> None:
    made = hybrid()
    slots = extend(made, 0, 6, -1)
    made.clear()
    assert not any(told(book, made, slots))


@pytest.mark.skipif(not can_back_up(), reason="nothing backs an allocator up in this release")
def test_a_backup_that_is_put_back_leaves_the_mapping(book: HandedOut) -> None:
    made = hybrid()
    state = back_up(made)
    slots = extend(made, 0, 6, -1)
    put_back(made, state)
    assert told(book, made, slots) == mapped(made, slots)
    again = extend(made, 0, 6, -1)
    assert told(book, made, again) == mapped(made, again) and all(told(book, made, again))


def test_what_is_written_past_the_allocator_is_told_with_its_owner(book: HandedOut) -> None:
    made = hybrid()
    one, other = extend(made, 0, PAGE, -1), extend(made, 0, PAGE, -1)
    own = mapped(made, one)
    made.full_to_swa_index_mapping[one] = made.full_to_swa_index_mapping[other]
    assert told(book, made, one) == own != mapped(made, one)
    page = np.array([[mapped(made, one)[0] // PAGE, 0]])
    owners = book.owners(made.get_kvcache(), page, PAGE)
    assert owners is not None and owners.tolist() == [[int(other[0]) // PAGE, 0]]


def test_ids_outside_are_none_of_it(book: HandedOut) -> None:
    made = hybrid()
    extend(made, 0, 6, -1)
    assert told(book, made, int64([-1, 0, 1 << 40])) == [-1, 0, -1]


def test_nothing_is_known_of_an_allocator_before_its_first_call() -> None:
    made, late = hybrid(), HandedOut()
    slots = extend(made, 0, 6, -1)
    with install("test", late.hooks()):
        assert late.slots(made.get_kvcache(), slots.numpy()) is None
        lens = int64([7])
        more = made.alloc_decode(lens, lens, slots[-1:])
        assert told(late, made, torch.cat([slots, more])) == mapped(made, torch.cat([slots, more]))
    assert late.slots(None, slots.numpy()) is None


def test_hooks_that_come_again_know_nothing_of_before(book: HandedOut) -> None:
    made = hybrid()
    slots = extend(made, 0, 6, -1)
    book.hooks()
    assert book.slots(made.get_kvcache(), slots.numpy()) is None


def test_a_pool_that_shares_the_mapping_is_known_by_it(book: HandedOut) -> None:
    made = hybrid()
    slots = extend(made, 0, 6, -1)

    class Draft:
        full_to_swa_index_mapping = made.full_to_swa_index_mapping

    found = book.slots(Draft(), slots.numpy())
    assert found is not None and list(found) == mapped(made, slots)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_a_devices_pages_are_forgotten_by_whole_pages_of_whatever_ids(book: HandedOut, dtype: torch.dtype) -> None:
    """By what a device is asked for, on a CPU: of a page any slot is enough, and no other page's is touched."""
    made = hybrid()
    slots = extend(made, 0, 5 * PAGE, -1)
    pool = made.get_kvcache()
    book._kept[pool] = replace(book._kept[pool], host_M=None, pages={})
    wanted = mapped(made, slots)
    assert all(wanted)
    book._unmap(made, torch.stack([slots[PAGE + 1], slots[3 * PAGE]]).to(dtype))
    wanted[PAGE : 2 * PAGE] = wanted[3 * PAGE : 4 * PAGE] = [0] * PAGE
    assert told(book, made, slots) == wanted


def test_inference_mode_may_come_and_go(book: HandedOut) -> None:
    with torch.inference_mode():
        made = hybrid()
        slots = extend(made, 0, 6, -1)
    with torch.inference_mode():
        made.free_swa(slots)
    assert not any(told(book, made, slots))
