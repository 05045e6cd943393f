"""trtllm_mha on a hybrid SWA pool: what a sliding layer's kernel is handed. sglang 0.5.23; runs on a CPU, in seconds.

    python -m pytest test_trtllm_mha_swa_pool.py

Pools, allocator, eviction, page-table builder and forward are sglang's; the attention kernel alone is a recorder.
"""

import os
import sys
import unittest
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

os.environ.setdefault("TRITON_INTERPRET", "1")

import torch

try:
    import sgl_kernel  # noqa: F401
except ImportError:  # no libcuda: its names are imported below, and none is called

    class Names(ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return None

    for _name in ("sgl_kernel", "sgl_kernel.flash_attn", "sgl_kernel.kvcacheio", "sgl_kernel.utils"):
        sys.modules[_name] = Names(_name)
        sys.modules[_name].__path__ = []

from sglang.srt.layers.attention import trtllm_mha_backend
from sglang.srt.mem_cache import common
from sglang.srt.mem_cache.allocator.swa import SWATokenToKVPoolAllocator
from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool
from sglang.srt.speculative.frozen_kv_mtp_utils import target_kv_pool_view

PAGE, WINDOW, TOKENS, HEADS, DIM = 16, 39, 160, 2, 16
SLIDING, FULL = 0, 1
ROW = 1


def make_pool():
    return SWAKVPool(
        size=512,
        size_swa=256,
        page_size=PAGE,
        dtype=torch.float32,
        head_num=HEADS,
        head_dim=DIM,
        swa_attention_layer_ids=[SLIDING],
        full_attention_layer_ids=[FULL],
        device="cpu",
    )


class Server:
    """A request of TOKENS tokens over real pools, and a backend that serves them."""

    def __init__(self):
        self.pool = make_pool()
        self.allocator = SWATokenToKVPoolAllocator(
            512, 256, PAGE, dtype=torch.float32, device="cpu", kvcache=self.pool, need_sort=False
        )
        self.allocator.swa_attn_allocator.alloc(2 * PAGE)  # so that no page has the same number in both spaces
        self.slots = self.allocator.full_attn_allocator.alloc(TOKENS)
        self.allocator.set_full_to_swa_mapping(self.slots, self.allocator.swa_attn_allocator.alloc(TOKENS))
        self.rows = torch.zeros(3, TOKENS, dtype=torch.int32)
        self.rows[ROW] = self.slots.to(torch.int32)
        self.backend = object.__new__(trtllm_mha_backend.TRTLLMHAAttnBackend)
        vars(self.backend).update(
            _swa_kv_pool=self.pool,
            token_to_kv_pool=self.pool,
            req_to_token=self.rows,
            page_size=PAGE,
            max_context_len=TOKENS,
            is_xqa_impl=True,
            is_nvfp4_kvcache=False,
            decode_uses_native_fp4=False,
            data_type=torch.float32,
            q_data_type=torch.float32,
            workspace_buffer=None,
            decode_seq_len_splits=1,
            _multi_ctas_kv_counter_buffer=None,
        )

    def tables(self, tokens):
        """The metadata of a decode of the request at this length."""
        lengths = torch.tensor([tokens], dtype=torch.int32)
        full, swa = (torch.full((1, TOKENS // PAGE), -7, dtype=torch.int32) for _ in range(2))
        metadata = SimpleNamespace(
            page_table=full, swa_page_table=swa, cache_seqlens_int32=lengths, swa_out_cache_loc=None
        )
        self.backend._fill_page_table_device(metadata, torch.tensor([ROW]), lengths)
        self.backend.forward_metadata = metadata
        return metadata

    def decode(self, query, layer_id):
        """What the kernel is called with."""
        layer = SimpleNamespace(
            layer_id=layer_id,
            tp_q_head_num=HEADS,
            tp_k_head_num=HEADS,
            tp_v_head_num=HEADS,
            head_dim=DIM,
            v_head_dim=DIM,
            scaling=1.0,
            sliding_window_size=WINDOW if layer_id == SLIDING else -1,
            k_scale=None,
            v_scale=None,
            k_scale_float=None,
            v_scale_float=None,
        )
        seen = {}

        def kernel(**given):
            seen.update(given)
            return torch.zeros(given["query"].shape)

        kernels = SimpleNamespace(decode=SimpleNamespace(trtllm_batch_decode_with_kv_cache=kernel))
        no_cp = patch.object(trtllm_mha_backend, "is_cp_active", lambda batch: False)
        with no_cp, patch.object(trtllm_mha_backend, "flashinfer", kernels, create=True):
            self.backend.forward_decode(query, None, None, layer, SimpleNamespace(), save_kv_cache=False)
        return seen


class TestTRTLLMHAOnSWAPool(unittest.TestCase):
    def test_page_in_window_is_mapped(self):
        """At each length of two pages: right after eviction, no page that holds a key of the window is the dummy."""
        for tokens in range(TOKENS - 2 * PAGE, TOKENS):
            with self.subTest(tokens=tokens):
                server = Server()
                kv = SimpleNamespace(
                    holds_kv=True,
                    cache_protected_len=0,
                    req_pool_idx=ROW,
                    evicted=0,
                    swa_dead_lo=lambda page: 0,
                    get_evicted_seqlen=lambda kind: 0,
                    set_evicted_seqlen=lambda kind, length: None,
                )
                common.free_swa_out_of_window_slots(
                    SimpleNamespace(kv=kv, req_pool_idx=ROW),
                    tokens - 1,
                    sliding_window_size=WINDOW,
                    page_size=PAGE,
                    req_to_token_pool=SimpleNamespace(req_to_token=server.rows),
                    token_to_kv_pool_allocator=server.allocator,
                )
                mapping = server.allocator.full_to_swa_index_mapping
                self.assertFalse((mapping[server.slots] > 0).all(), "nothing was evicted: this proves nothing")
                table = server.tables(tokens).swa_page_table[0]
                first = (tokens - 1 - WINDOW) // PAGE
                window = table[first : -(-tokens // PAGE)]
                self.assertTrue((window > 0).all(), f"pages of the window: {window.tolist()}")
                self.assertTrue(torch.equal(window.long(), mapping[server.slots[first * PAGE : tokens : PAGE]] // PAGE))

    def test_query_rows_are_packed(self):
        """XQA is given the address of the query and no strides: rows left in a qkv buffer would be misread."""
        server = Server()
        server.tables(TOKENS)
        qkv = torch.arange(3 * 3 * HEADS * DIM, dtype=torch.float32).view(3, -1)
        query = qkv[:, : HEADS * DIM]
        self.assertFalse(query.is_contiguous())
        seen = server.decode(query, SLIDING)["query"]
        self.assertEqual(seen.stride(0), HEADS * DIM)
        self.assertTrue(torch.equal(seen.reshape(3, -1), query))

    def test_draft_writes_no_kv(self):
        """A frozen-KV draft reads the target's pool inside the view, in the layer's own space, and writes nothing."""
        server = Server()
        own, target = make_pool(), server.pool
        server.backend.token_to_kv_pool = own
        context = SimpleNamespace(target_token_to_kv_pool=target)
        metadata = server.tables(TOKENS)
        for layer_id, table in ((SLIDING, metadata.swa_page_table), (FULL, metadata.page_table)):
            before = [buffer.clone() for buffer in target.get_kv_buffer(layer_id)]
            with (
                patch.object(SWAKVPool, "set_kv_buffer", side_effect=AssertionError("a frozen draft writes K/V")),
                target_kv_pool_view(SimpleNamespace(), context, server.backend),
            ):
                seen = server.decode(torch.zeros(1, HEADS * DIM), layer_id)
            buffers = target.get_kv_buffer(layer_id)
            self.assertEqual([cache.data_ptr() for cache in seen["kv_cache"]], [one.data_ptr() for one in buffers])
            self.assertTrue(all(torch.equal(one, two) for one, two in zip(before, buffers, strict=True)))
            self.assertIs(seen["block_tables"], table)
            self.assertIs(server.backend.token_to_kv_pool, own)


if __name__ == "__main__":
    unittest.main()
