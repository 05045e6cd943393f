"""Whose rows a batch was built with, and whose they are when it is read."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sglang")

from g4diag.hooks.install import install
from g4diag.model import AttentionRead, RowOwners, View
from g4diag.scenario.measure import judge_all
from g4diag.stack.drive import cpu
from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.request_state import give_row_back, request_row, take_row
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.probes.contract import Context, made
from g4diag.stack.probes.request_rows import RequestRows, _rows_a_request
from g4diag.stack.probes.workers import Backends


def blind(query: Any, **arguments: Any) -> Any:
    import torch

    return torch.zeros(query.shape)


def drafting() -> FrozenDraft:
    draft = FrozenDraft(Serving(Geometry(requests=2), seed=0))
    for rid, ids in draft.serving.prompts():
        assert draft.serving.admit(rid, ids)
    return draft


def of(book: RequestRows, draft: FrozenDraft, batch: Any) -> RowOwners:
    found = book.of(draft.serving.request_pool, batch, batch.req_pool_indices.numpy())
    assert found is not None
    return found


def test_a_batch_and_its_copies_know_their_requests() -> None:
    book = RequestRows()
    with install("test", book.hooks()), cpu.attention_kernels(blind, blind):
        draft = drafting()
        batch = draft.prepared()
        rows = [request_row(req) for req in draft.serving.running.reqs]
        for each in (batch, replace(batch)):
            found = of(book, draft, each)
            assert found.rids == found.now_rids == ("r0", "r1") and list(found.rows_B) == rows
            assert list(found.taken_B) == list(found.now_taken_B) and (found.taken_B > 0).all()


def test_a_row_given_away_is_told() -> None:
    book = RequestRows()
    with install("test", book.hooks()), cpu.attention_kernels(blind, blind):
        draft = drafting()
        batch, rows = draft.prepared(), draft.serving.request_pool
        first = draft.serving.running.reqs[0]
        row = request_row(first)
        give_row_back(rows, first)
        assert of(book, draft, batch).now_rids == ("", "r1")
        while request_row(take_row(rows)) != row:
            pass
        found = of(book, draft, batch)
        assert found.now_rids == ("?", "r1") and found.now_taken_B[0] == found.taken_B[0] + 1
        rows.clear()
        assert of(book, draft, batch).now_rids == ("", "")


def test_what_came_before_the_hooks_is_not_known() -> None:
    with cpu.attention_kernels(blind, blind):
        draft, book = drafting(), RequestRows()
        early = draft.prepared()
        with install("test", book.hooks()):
            rows_B = early.req_pool_indices.numpy()
            assert book.of(draft.serving.request_pool, early, rows_B) is None
            found = of(book, draft, draft.prepared())
            assert found.now_rids == ("?", "?") and set(found.taken_B) == set(found.now_taken_B) == {-1}


def test_a_part_of_a_batch_and_other_rows_are_not_taken_for_it() -> None:
    book, rids = RequestRows(), ["a", "b"]
    book.hooks()
    reqs = [SimpleNamespace(rid=rid, req_pool_idx=i, kv=SimpleNamespace(req_pool_idx=i)) for i, rid in enumerate(rids)]
    book.built(rids, reqs, _Pool())
    half = SimpleNamespace(rids=rids, batch_size=1)
    assert book.of(_Pool(), half, np.array([0])) is None
    assert book.of(_Pool(), SimpleNamespace(rids=["a", "b"], batch_size=2), np.array([0, 1])) is None
    assert book.of(_Pool(), SimpleNamespace(rids=rids, batch_size=2), np.array([0, 1, 1])) is None


def asked_of(book: RequestRows, pool: Any, reqs: list[Any]) -> tuple[tuple[int, ...] | None, int]:
    """(rows of the batch that is built now, requests that were asked for theirs)."""
    asked = 0

    class Asking(list[Any]):
        def __iter__(self) -> Any:
            nonlocal asked
            asked += len(self)
            return super().__iter__()

    rids = [req.rid for req in reqs]
    book.built(rids, Asking(reqs), pool)
    return book.rows_of(SimpleNamespace(rids=rids, batch_size=len(rids)))[0], asked


def test_the_next_step_of_the_same_requests_asks_none_of_them_until_a_row_moves() -> None:
    book = RequestRows()
    with install("test", book.hooks()), cpu.attention_kernels(blind, blind):
        draft = drafting()
        pool, reqs = draft.serving.request_pool, list(draft.serving.running.reqs)
        rows = tuple(request_row(req) for req in reqs)
        assert asked_of(book, pool, reqs)[0] == rows
        assert asked_of(book, pool, reqs) == (rows, 0)
        assert asked_of(book, pool, reqs[::-1]) == (rows[::-1], 4)  # others: their rows, then their ids
        assert asked_of(book, pool, reqs) == (rows, 4)
        give_row_back(pool, reqs[0])
        other = take_row(pool)
        reqs[0] = SimpleNamespace(rid=reqs[0].rid, req_pool_idx=request_row(other), kv=getattr(other, "kv", None))
        found, asked = asked_of(book, pool, reqs)
        assert found == (request_row(other), rows[1]) and asked == 4


def test_rows_that_came_past_the_hooks_are_asked_for_each_time() -> None:
    with cpu.attention_kernels(blind, blind):
        draft, book = drafting(), RequestRows()
        book.hooks()
        pool, reqs = draft.serving.request_pool, draft.serving.running.reqs
        assert [asked_of(book, pool, reqs)[1] for _ in range(2)] == [4, 4]


class _Pool:
    """Something that rows are of."""


@pytest.mark.parametrize(
    ("rows", "requests", "each"), [((3, 5), 2, 1), ((3,), 2, 1), ((3, 3, 5, 5), 2, 2), ((3, 5, 3, 5), 2, None)]
)
def test_rows_a_request(rows: tuple[int, ...], requests: int, each: int | None) -> None:
    assert _rows_a_request(np.array(rows), requests) == each


def test_every_eager_read_of_a_server_is_judged_and_none_is_broken() -> None:
    views: list[View] = []
    probes = made(Context(Backends(views.append), views.append), frozenset({AttentionRead}))
    with install("test", [hook for probe in probes for hook in probe.hooks()]), cpu.attention_kernels(blind, blind):
        draft = drafting()
        draft.serving.decode()
        draft.eager()
    reads = [view for view in views if isinstance(view, AttentionRead) and view.step >= 0]
    known = [read for read in reads if read.row_owners is not None]
    assert {(read.worker, read.phase) for read in known} == {
        ("target", "extend"),
        ("target", "decode"),
        ("draft", "draft_decode"),
    }
    assert all(read.windows is not None for read in known if read.expected_space.is_swa)
    assert all(read.handed_out_BP is not None for read in known if read.expected_space.is_swa)
    assert {read.backend_page_size for read in known} == {read.allocator_page_size for read in known} == {16}
    assert not [bad for read in reads for bad in judge_all(read)]


def test_an_answer_is_kept_until_a_row_moves() -> None:
    book = RequestRows()
    with install("test", book.hooks()), cpu.attention_kernels(blind, blind):
        draft = drafting()
        batch, pool = draft.prepared(), draft.serving.request_pool
        first = of(book, draft, batch)
        assert of(book, draft, batch) is first and "" not in first.now_rids
        other = book.of(object.__new__(type(pool)), batch, batch.req_pool_indices.numpy())
        assert other is not None and set(other.now_rids) == {"?"}  # of another pool
        give_row_back(pool, draft.serving.running.reqs[0])
        assert of(book, draft, batch).now_rids[0] == ""
