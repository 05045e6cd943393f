"""The clamp makes ids legal for the layer's own pool, and touches nothing of the backend's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.patches.applying import applied
from tests.patches.runners import FULL_LAYER, FULL_TOKENS, PAGE_SIZE, SWA_LAYER, SWA_TOKENS, swa_pool


def test_ids_are_clamped_to_each_layers_own_pool_out_of_place() -> None:
    from sglang.srt.layers.attention.trtllm_mha_backend import TRTLLMHAAttnBackend

    buffer = torch.tensor([[-1, 3, 4, 5, 16, 17, 99]], dtype=torch.int32)
    before = buffer.clone()
    backend = SimpleNamespace(
        forward_metadata=SimpleNamespace(swa_page_table=None, page_table=buffer[:, :]),
        token_to_kv_pool=swa_pool(),
        page_size=PAGE_SIZE,
    )
    # The pages of a pool, the dummy page 0 included: ids up to and including tokens / page_size are legal.
    for layer_id, last in ((SWA_LAYER, SWA_TOKENS // PAGE_SIZE), (FULL_LAYER, FULL_TOKENS // PAGE_SIZE)):
        layer = SimpleNamespace(layer_id=layer_id)
        with applied(["clamp"]):
            table = TRTLLMHAAttnBackend._get_layer_page_table(backend, layer, None)
        assert table.tolist() == [[min(max(page, 0), last) for page in before[0].tolist()]]
        assert table.dtype == torch.int32 and torch.equal(buffer, before)
        assert torch.equal(TRTLLMHAAttnBackend._get_layer_page_table(backend, layer, None), before)


def test_a_refilled_static_buffer_is_clamped_again() -> None:
    from sglang.srt.layers.attention.trtllm_mha_backend import TRTLLMHAAttnBackend

    static = torch.zeros(2, 3, dtype=torch.int32)
    metadata = SimpleNamespace(swa_page_table=None, page_table=static)
    backend = SimpleNamespace(forward_metadata=metadata, token_to_kv_pool=swa_pool(), page_size=PAGE_SIZE)
    with applied(["clamp"]):
        for fill in (1, 50):
            static.fill_(fill)
            table = TRTLLMHAAttnBackend._get_layer_page_table(backend, SimpleNamespace(layer_id=SWA_LAYER), None)
            assert table.unique().tolist() == [min(fill, 4)] and static.unique().tolist() == [fill]
