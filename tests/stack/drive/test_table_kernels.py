"""The fast ways of the two kernels that make page tables write what the interpreted kernels write."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sglang")

import torch

from g4diag.hooks.targets import imported
from g4diag.stack.drive import table_kernels
from g4diag.stack.drive.driver import driver

KERNELS = driver().FIXTURES.TABLE_KERNELS
pytestmark = pytest.mark.skipif(not KERNELS, reason="this release builds tables by torch alone: it has no such kernel")
PAGE, ROWS, POOL = 4, 5, 40
batches = st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(1, 24)), min_size=1, max_size=4)


def request_rows() -> tuple[torch.Tensor, torch.Tensor]:
    """(req_to_token, mapping), each entry its own."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(0, POOL, (ROWS, 32), generator=generator, dtype=torch.int32)
    mapping = torch.randint(0, POOL, (POOL + 1,), generator=generator)
    mapping[-1] = -1
    return rows, mapping


@settings(max_examples=10)
@given(batch=batches, has_swa=st.booleans())
def test_an_eager_step(batch: list[tuple[int, int]], has_swa: bool) -> None:
    req_to_token, mapping = request_rows()
    rows, lens = torch.tensor([row for row, _ in batch]), torch.tensor([n for _, n in batch], dtype=torch.int32)
    tables = [[torch.full((len(batch), 6), -7, dtype=torch.int32) for _ in range(2)] for _ in range(2)]
    for launch, (table, swa_table) in zip(
        (_kernel("eager")[len(batch), 1], table_kernels.fast_eager), tables, strict=True
    ):
        swa = (mapping, table, swa_table, len(mapping)) if has_swa else (None, table, None, 0)
        launch(req_to_token, rows, lens, *swa, 32, 6, PAGE_SIZE=PAGE, HAS_SWA=has_swa)
    assert all(map(torch.equal, *tables))


def test_a_row_past_the_tables_end_is_refused_where_the_kernel_would_write_it() -> None:
    req_to_token, _ = request_rows()
    table = torch.zeros(1, 2, dtype=torch.int32)
    with pytest.raises(IndexError, match=r"3 pages is written past the end of a table of \(1, 2\)"):
        table_kernels.fast_eager(
            *(req_to_token, torch.tensor([1]), torch.tensor([9]), None, table, None, 0, 32, 2),
            **{"PAGE_SIZE": PAGE, "HAS_SWA": False},
        )


@settings(max_examples=10)
@given(batch=batches, offset=st.integers(0, 4), mode=st.integers(0, 2), tokens=st.integers(0, 6))
def test_what_a_graph_records(batch: list[tuple[int, int]], offset: int, mode: int, tokens: int) -> None:
    """Lengths may pass the table's last column: the kernel writes as many as there are."""
    found = [_recorded(batch, offset, mode, tokens, fast=fast) for fast in (False, True)]
    assert all(map(torch.equal, *found))


def _recorded(batch: list[tuple[int, int]], offset: int, mode: int, tokens: int, *, fast: bool) -> list[torch.Tensor]:
    req_to_token, mapping = request_rows()
    size, columns = len(batch), 5
    rows, lens = torch.tensor([row for row, _ in batch]), torch.tensor([n for _, n in batch])
    outs = [torch.full((size,), -7, dtype=torch.int32), *(torch.full((size + 1,), -7, dtype=torch.int32) for _ in "kq")]
    tables = [torch.full((size, columns), -7, dtype=torch.int32) for _ in range(2)]
    written, swa_out = torch.arange(tokens) - 1, torch.full((8,), -7)
    launch = table_kernels.fast_graph if fast else _kernel("graph")[(size + 2,)]
    launch(
        *(rows, lens, req_to_token, mapping, written if tokens else swa_out, lens, *outs, *tables, swa_out),
        *(size, offset, columns, 3, tokens, len(swa_out), req_to_token.stride(0), columns, columns),
        PAGE_SIZE=PAGE,
        HAS_SWA=True,
        HAS_SWA_OUT=True,
        Q_MODE=mode,
        PAGE_BLOCK=512,
        BS_BLOCK=1 << (size - 1).bit_length(),
        SKIP_PAGE_TABLE=0,
    )
    return [*outs, *tables, swa_out]


def _kernel(name: str) -> Any:
    return imported(KERNELS[name])
