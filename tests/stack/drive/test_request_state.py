"""Rows and free lists are read and set as sglang's own classes keep them."""

from __future__ import annotations

import pytest

pytest.importorskip("sglang")

from g4diag.stack.drive.request_state import give_row_back, has_row, request_row, take_row, write_row
from g4diag.stack.drive.swa_pool import free_pages, next_pages, paged, set_next_pages

PAGE = 4


def test_a_row_is_taken_written_and_given_back() -> None:
    from sglang.srt.mem_cache.memory_pool import ReqToTokenPool

    pool = ReqToTokenPool(2, 8, "cpu", False)
    first, second = take_row(pool), take_row(pool)
    assert has_row(first) and request_row(first) != request_row(second)
    assert take_row(pool) is None
    write_row(pool, second, [5, 6, 7])
    assert pool.req_to_token[request_row(second)].tolist() == [5, 6, 7, 0, 0, 0, 0, 0]
    give_row_back(pool, first)
    assert not has_row(first) and take_row(pool) is not None


def test_pages_are_handed_out_as_set() -> None:
    made = paged(4, PAGE)
    assert next_pages(made) == free_pages(made) == [1, 2, 3, 4]
    set_next_pages(made, [3, 1])
    assert made.alloc(PAGE).tolist() == [12, 13, 14, 15]
    assert next_pages(made) == [1]
