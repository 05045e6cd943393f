"""sglang 0.5.13 to 0.5.20, flashinfer: a prefill behind a cached prefix counts its new keys twice. Runs without a GPU.

python -m pytest test_flashinfer_double_read.py        # fails while the bug is there
"""

import os

os.environ.setdefault("TRITON_INTERPRET", "1")

from types import SimpleNamespace

import torch
from sglang.srt.layers.attention.flashinfer_backend import FlashInferIndicesUpdaterPrefill

PREFIX, NEW, WINDOW = 24, 6, 8


class Wrapper:
    """Keeps what it is planned with."""

    def begin_forward(self, *args, **kwargs):
        self.planned = args


def updater():
    """As the constructor leaves it, as far as a prefill of one request goes. The pools have no SWA half."""
    made = object.__new__(FlashInferIndicesUpdaterPrefill)
    vars(made).update(
        num_qo_heads=1,
        num_kv_heads=1,
        head_dim=16,
        data_type=torch.float32,
        q_data_type=torch.float32,
        sliding_window_size=WINDOW,
        kv_indptr=[torch.zeros(2, dtype=torch.int32) for _ in range(2)],
        qo_indptr=[torch.zeros(2, dtype=torch.int32) for _ in range(2)],
        kv_last_page_len=torch.ones(1, dtype=torch.int32),
        req_to_token=torch.arange(100, 100 + PREFIX + NEW, dtype=torch.int32)[None],
        token_to_kv_pool_allocator=SimpleNamespace(),
        prefill_wrapper_ragged=Wrapper(),
        attn_backend=SimpleNamespace(),
    )
    return made


def test_a_full_layer_reads_each_key_once():
    made, wrappers = updater(), [Wrapper(), Wrapper()]
    lens, prefix = torch.tensor([PREFIX + NEW]), torch.tensor([PREFIX])
    made.update_sliding_window(
        torch.tensor([0]),
        lens,
        lens,
        int(lens.sum()),
        prefix,
        prefill_wrappers=wrappers,
        use_ragged=True,
        encoder_lens=None,
        spec_info=None,
    )
    _, kv_indptr, slots = wrappers[1].planned[:3]
    assert made.prefill_wrapper_ragged.planned[0].tolist() == [0, NEW], "the ragged wrapper reads the new keys"
    assert slots[: kv_indptr[-1]].tolist() == list(range(100, 100 + PREFIX)), "the paged one reads the prefix alone"
