"""The fast ways of the two allocation kernels answer as the interpreted kernels do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sglang")

import torch

from g4diag.hooks.targets import imported
from g4diag.stack.drive import allocation_kernels as kernels
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.swa_pool import int64

KERNELS = imported(driver().SCHEDULING.ALLOCATION_KERNELS)
rows = st.lists(st.tuples(st.integers(0, 70), st.integers(1, 70), st.integers(1, 40)), min_size=1, max_size=4)
page_sizes = st.sampled_from([4, 16, 64])


@settings(max_examples=25)
@given(rows=rows, page_size=page_sizes, free=st.permutations(range(1, 160)))
def test_extend(rows: list[tuple[int, int, int]], page_size: int, free: list[int]) -> None:
    """Rows are (tokens before, tokens to add, the page of the last token before)."""
    before, last = _lens_and_last(rows, page_size)
    lens, total = before + int64([extra for _, extra, _ in rows]), sum(extra for _, extra, _ in rows)
    _same(
        KERNELS.alloc_extend_kernel, kernels.fast_extend, len(rows), total, (before, lens, last, int64(free)), page_size
    )


@settings(max_examples=25)
@given(rows=rows, page_size=page_sizes, free=st.permutations(range(1, 12)))
def test_decode(rows: list[tuple[int, int, int]], page_size: int, free: list[int]) -> None:
    before, last = _lens_and_last(rows, page_size)
    _same(
        KERNELS.alloc_decode_kernel,
        kernels.fast_decode,
        len(rows),
        len(rows),
        (before + 1, last, int64(free)),
        page_size,
    )


def test_the_switch_launches_what_it_is_told() -> None:
    calls: list[str] = []
    interpreted = {(1,): lambda *_: calls.append("interpreted")}
    stand_in = kernels.Switch(interpreted, lambda *_: calls.append("fast"))
    kernels.use_interpreter(False)
    stand_in[(1,)]()
    kernels.use_interpreter(True)
    stand_in[(1,)]()
    assert calls == ["fast", "interpreted"]


def _lens_and_last(rows: list[tuple[int, int, int]], page_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    before = [have for have, _, _ in rows]
    last = [page * page_size + (have - 1) % page_size if have else -1 for have, _, page in rows]
    return int64(before), int64(last)


def _same(kernel: object, fast: object, batch: int, total: int, tensors: tuple[torch.Tensor, ...], page: int) -> None:
    outs = [torch.full((total,), -7, dtype=torch.int64) for _ in range(2)]
    kernel[(batch,)](*tensors, outs[0], 1 << (batch - 1).bit_length(), page)
    fast(*tensors, outs[1], 0, page)
    assert torch.equal(*outs)
