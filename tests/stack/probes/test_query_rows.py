"""The probe sees what XQA is handed, after patches, on every path; and nothing where it is not XQA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.hooks.install import Hook, install
from g4diag.model import QueryRows, View
from g4diag.patches.applying import applied, lacking
from g4diag.scenario.measure import judge_all
from g4diag.stack.drive import cpu
from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.drive.xqa import KERNEL, PackedRows, hand_over_rows_apart, queries_in_place
from g4diag.stack.probes.query_rows import QueryRowsProbe
from g4diag.stack.probes.workers import Backends
from tests.patches.releases import need_place

CURE = "xqa-strided-query"
REQUESTS = 2


@contextmanager
def drafting(*patches: str, xqa: bool = True) -> Iterator[tuple[FrozenDraft, list[View]]]:
    """A draft over a server with running requests whose queries stay in the qkv buffer, and what the probe saw."""

    def blind(query: torch.Tensor, **arguments: object) -> torch.Tensor:
        return torch.zeros(query.shape)

    views: list[View] = []
    backends = Backends(lambda swap: None)
    hooks = [*backends.hooks(), *QueryRowsProbe(backends, views.append).hooks()]
    with applied(patches), cpu.attention_kernels(blind, blind), install("test", hooks):
        serving = Serving(Geometry(requests=REQUESTS), seed=0)
        draft = FrozenDraft(serving)
        serving.runner.attn_backend.is_xqa_impl = draft.backend.is_xqa_impl = xqa
        for rid, ids in serving.prompts():
            assert serving.admit(rid, ids)
        del views[:]
        with queries_in_place(serving.model), queries_in_place(draft.worker.draft_model_runner.model):
            yield draft, views


READS = {("target", "decode", "eager"), ("draft", "draft_decode", "eager"), ("draft", "draft_decode", "graph")}


def reads(rows: list[QueryRows]) -> set[tuple[str, str, str]]:
    return {(row.worker, row.phase, row.path) for row in rows}


def test_target_and_draft_are_seen_as_this_release_leaves_their_rows_eager_and_in_a_graph() -> None:
    with drafting() as (draft, views):
        draft.serving.decode()
        draft.eager()
        draft.graph()
    rows = [view for view in views if isinstance(view, QueryRows)]
    assert reads(rows) == READS and min(row.rows for row in rows) == REQUESTS
    stride = 64 if lacking([CURE]) else 32
    assert all((row.row_elements, row.row_stride) == (32, stride) for row in rows)
    found = [violation for row in rows for violation in judge_all(row)]
    assert len(found) == (len(rows) if lacking([CURE]) else 0)
    assert {violation.trap for violation in found} <= {"query_rows_are_packed"}


def test_rows_apart_fire_for_target_and_draft_eager_and_in_a_graph() -> None:
    with drafting() as (draft, views):
        for backend in (draft.serving.runner.attn_backend, draft.backend):
            hand_over_rows_apart(backend)
        draft.serving.decode()
        draft.eager()
        draft.graph()
    bad = [view for view in views if isinstance(view, QueryRows) and judge_all(view)]
    assert reads(bad) == READS


def test_it_sees_what_the_cure_leaves() -> None:
    need_place(CURE)
    with drafting(CURE) as (draft, views):
        draft.serving.decode()
        draft.eager()
    assert views and not [violation for view in views for violation in judge_all(view)]


def test_a_kernel_that_is_told_the_strides_is_not_looked_at() -> None:
    with drafting(xqa=False) as (draft, views):
        draft.serving.decode()
        draft.eager()
    assert not views


def test_a_call_of_somebody_else_is_left_alone() -> None:
    import flashinfer.decode

    with drafting() as (_, views):
        names = ("query", "kv_cache", "workspace_buffer", "block_tables", "seq_lens", "max_seq_len")
        flashinfer.decode.trtllm_batch_decode_with_kv_cache(**dict.fromkeys(names, torch.zeros(1, 1, 1)))
    assert not views


def test_the_reference_reads_from_the_address_on() -> None:
    """Row 1 of two heads of 2 in a buffer of rows of 6: the gap of row 0, then the first half of itself."""
    kernel, seen = PackedRows(), []
    buffer = torch.arange(12.0).view(2, 6)
    query = buffer[:, :4].unflatten(-1, (2, 2))
    kernel._run = lambda query, *_: (seen.append(query.flatten(1).tolist()), query.clone())[1]  # type: ignore[method-assign]
    kernel.decode(query=query, kv_cache=None, block_tables=None, seq_lens=[1, 1])
    assert seen[0] == [[0, 1, 2, 3], [4, 5, 6, 7]] and (kernel.rows, kernel.later, kernel.wrong) == (2, 1, 1)


def test_the_accept_length_falls_and_the_cure_gives_it_back() -> None:
    """Real worker, layers and backend: of two requests the second drafts with a query that is none, until the cure or
    a release that packs the rows itself."""
    from g4diag.stack.pairs.accepting_pair.acceptance import Case, WrongPages, accept_lengths

    kernel = PackedRows()

    def cases(draft: FrozenDraft, pages: WrongPages) -> dict[str, Case]:
        draft.backend.is_xqa_impl = True
        model = draft.worker.draft_model_runner.model

        @contextmanager
        def on_xqa(*patches: str) -> Iterator[None]:
            reads = [Hook(KERNEL, "replace", kernel.decode)]
            with applied(patches), install("as XQA", reads), queries_in_place(model):
                yield

        return {"packed": nullcontext, "in place": on_xqa, "cured": lambda: on_xqa(*lacking([CURE]))}

    geometry = Geometry(prompt=300, requests=REQUESTS, live=REQUESTS, steps_per_admission=3)
    found = accept_lengths(geometry, 0, cases)
    assert kernel.later and 2.0 < found["packed"].length == found["cured"].length
    assert (kernel.wrong > 0, found["in place"].length < 2.0) == ((True, True) if lacking([CURE]) else (False, False))
