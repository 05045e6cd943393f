"""sglang 0.5.14 to 0.5.23: the eager page-table builder of trtllm_mha writes past its tables. Runs without a GPU.

python -m pytest test_eager_page_table.py        # fails while the bug is there
"""

import os

os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import torch

PAGE, NOBODYS = 16, -7


def builder():
    try:
        from sglang.kernels.ops.attention import trtllm_mha_page_table as module
    except ImportError:
        module = pytest.importorskip("sglang.srt.layers.attention.triton_ops.trtllm_mha_page_table")
    return module.build_trtllm_mha_page_table


@pytest.mark.parametrize("context", [112, 128, 144])
def test_nothing_is_written_past_the_table(context):
    """A verify of four draft tokens, three tokens from the context's end: one page more than the table is wide."""
    columns = context // PAGE
    keys = context - 3 + 4
    request_table = torch.arange(16, 16 + keys + PAGE, dtype=torch.int32).repeat(2, 1)
    buffer = torch.full((2, columns), NOBODYS, dtype=torch.int32)
    table = buffer[:1]  # what sglang would have allocated; the second row belongs to somebody else
    lengths = torch.tensor([keys], dtype=torch.int32)
    builder()(request_table, torch.tensor([1]), lengths, table, PAGE)
    assert (table != NOBODYS).all(), "the builder filled nothing"
    assert buffer[1].tolist() == [NOBODYS] * columns
