"""A table's pages are of one size for whoever makes it, whoever has the pool and whoever hands the pages out."""

from __future__ import annotations

import pytest
from hypothesis import given

from g4diag.model import AttentionRead
from g4diag.traps.page_size_is_the_pools import TRAP
from tests import samples, strategies

PAGE = samples.PAGE


@pytest.mark.parametrize("sizes", [(PAGE, PAGE), (None, PAGE), (PAGE, None), (None, None)])
def test_one_size_is_silent(sizes: tuple[int | None, int | None]) -> None:
    backend, allocator = sizes
    read = samples.healthy_read(backend_page_size=backend, allocator_page_size=allocator)
    assert not list(TRAP.judge(read)) and bool(TRAP.needs(read)) is (sizes == (None, None))


@pytest.mark.parametrize(
    ("backend", "allocator", "says"),
    [
        (
            PAGE,
            16,
            f"its backend makes pages of {PAGE}, its pool has pages of {PAGE}, its allocator hands out pages of 16",
        ),
        (
            16,
            PAGE,
            f"its backend makes pages of 16, its pool has pages of {PAGE}, its allocator hands out pages of {PAGE}",
        ),
        (None, 16, f"different sizes: its pool has pages of {PAGE}, its allocator hands out pages of 16 tokens"),
    ],
)
def test_two_sizes_fire(backend: int | None, allocator: int, says: str) -> None:
    (violation,) = TRAP.judge(samples.healthy_read(backend_page_size=backend, allocator_page_size=allocator))
    assert says in violation.summary and violation.count == violation.checked == 1


def test_flat_slots_have_no_pages() -> None:
    read = samples.healthy_read(pool=samples.swa_pool().by_slot(), backend_page_size=16, allocator_page_size=64)
    assert not list(TRAP.judge(read)) and TRAP.needs(read) == "a table of pages, not of slots"


@given(strategies.reads())
def test_it_never_raises(found: AttentionRead) -> None:
    assert len(list(TRAP.judge(found))) <= 1
