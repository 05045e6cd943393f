"""Padding of a batch is told by what makes it padding: last, at request row 0, of no more than one key."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from g4diag.stack.probes.page_table import real_rows


def batch(*lens: int) -> SimpleNamespace:
    return SimpleNamespace(seq_lens=torch.tensor(lens))


@pytest.mark.parametrize(
    ("rows", "lens", "real"),
    [
        ((3, 1, 2), (9, 9, 9), 3),
        ((3, 1, 0, 0), (9, 9, 1, 1), 2),  # a graph's padding
        ((3, 0, 2), (9, 9, 9), 3),  # row 0 in the middle hides nobody behind it
        ((3, 0), (9, 9), 2),  # a test's request at row 0
        ((0, 0), (1, 1), 2),  # a graph's warm-up: all are dummies, and all are judged
        ((3, 3, 0, 0), (9, 1), 2),  # two rows a request
        ((3, 3, 0, 0), (9, 9), 4),
    ],
)
def test_rows_of_the_batch(rows: tuple[int, ...], lens: tuple[int, ...], real: int) -> None:
    assert real_rows(np.array(rows), batch(*lens)) == real


def test_without_a_batch_row_0_is_padding_where_it_is_last() -> None:
    assert real_rows(np.array([3, 0, 2, 0])) == 3
