"""Whatever q the real backend is handed, XQA gets packed rows, and the same tensor where they are packed already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.hooks.anchors import Anchor
from g4diag.patches.applying import applied, patches, selected_patches
from g4diag.patches.contract import fit
from g4diag.settings import Selection
from g4diag.stack.drive import cpu
from g4diag.stack.drive.serving import Geometry, Serving
from tests.patches.releases import need_place, started_process

NAME = "xqa-strided-query"
ROWS = 2


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Serving, Any, list[torch.Tensor]]]:
    """A server with two requests, a forward batch that its backend decoded last, and queries its kernels were given."""
    need_place(NAME)
    started_process()
    queries: list[torch.Tensor] = []

    def kernel(query: torch.Tensor, **arguments: Any) -> torch.Tensor:
        queries.append(query)
        return torch.zeros(query.shape)

    batches: list[Any] = []
    with cpu.attention_kernels(kernel, kernel):
        serving = Serving(Geometry(requests=ROWS), 0)
        for rid, ids in serving.prompts():
            serving.admit(rid, ids)
        module = serving.model.model.layers[0].self_attn.attn
        keep = lambda _, given, named: batches.append(named["forward_batch"])  # noqa: E731
        handle = module.register_forward_pre_hook(keep, with_kwargs=True)
        serving.decode()
        handle.remove()
        yield serving, batches[0], queries


def sliced() -> torch.Tensor:
    """Queries of two heads of 16, in the first half of a qkv buffer."""
    return torch.arange(ROWS * 64.0).view(ROWS, 64)[:, :32]


@contextmanager
def mode(batch: Any, verify: bool) -> Iterator[None]:
    from sglang.srt.model_executor.forward_batch_info import ForwardMode

    before = batch.forward_mode
    batch.forward_mode = ForwardMode.TARGET_VERIFY if verify else before
    try:
        yield
    finally:
        batch.forward_mode = before


def handed(served: Any, q: torch.Tensor, *, verify: bool = False, xqa: bool = True) -> torch.Tensor:
    """What the decode kernel gets when the backend is given q."""
    serving, batch, queries = served
    backend, layer = serving.runner.attn_backend, serving.model.model.layers[0].self_attn.attn
    backend.is_xqa_impl = xqa
    forward = backend.forward_extend if verify else backend.forward_decode
    with mode(batch, verify):
        forward(q, None, None, layer, batch, save_kv_cache=False)
    return queries[-1]


@pytest.mark.parametrize("verify", [False, True], ids=["decode", "verify"])
def test_strided_rows_go_in_and_packed_ones_of_equal_value_come_out(served: Any, verify: bool) -> None:
    q = sliced()
    assert handed(served, q, verify=verify).stride(0) == 64, "0.5.13 hands on a view"
    with applied([NAME]):
        packed = handed(served, q, verify=verify)
    assert packed.is_contiguous() and torch.equal(packed.flatten(1), q)
    assert handed(served, q, verify=verify).stride(0) == 64, "undone"


@pytest.mark.parametrize("verify", [False, True], ids=["decode", "verify"])
def test_packed_rows_are_not_copied(served: Any, verify: bool) -> None:
    q = sliced().contiguous()
    with applied([NAME]):
        assert handed(served, q, verify=verify).data_ptr() == q.data_ptr()


def test_off_xqa_nothing_is_copied(served: Any) -> None:
    q = sliced()
    with applied([NAME]):
        assert handed(served, q, xqa=False).data_ptr() == q.data_ptr()


def test_all_takes_it_and_a_backend_that_packs_by_itself_is_upstream() -> None:
    patch = patches()[NAME]
    assert (NAME in selected_patches(Selection(everything=True))) is (fit(patch).state == "available")
    assert patch.upstream_when is not None and "contiguous" in patch.upstream_when.text
    there = Anchor(patch.upstream_when.target, "q = q.reshape(-1, layer.tp_q_head_num, layer.head_dim)")
    assert fit(replace(patch, upstream_when=there)).state == "upstream"
