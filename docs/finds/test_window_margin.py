"""sglang 0.5.13, Gemma-4, SGLANG_OPT_SWA_EVICT_DROP_PAGE_MARGIN=1: a key that the kernel's window takes in is freed.
Runs without a GPU.

python -m pytest test_window_margin.py        # fails while the bug is there
"""

import inspect
import os

os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ["SGLANG_OPT_SWA_EVICT_DROP_PAGE_MARGIN"] = "1"

from types import SimpleNamespace

import torch
from sglang.srt.managers.schedule_batch import ScheduleBatch
from sglang.srt.mem_cache.allocator.swa import SWATokenToKVPoolAllocator
from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool
from sglang.srt.models import gemma4_causal

PAGE, TOKENS = 64, 1280
CONFIG = SimpleNamespace(sliding_window=512)


def window_of_the_kernel():
    """Keys left of the query, as Gemma4Attention hands them to its RadixAttention, and that to the kernel."""
    source = inspect.getsource(gemma4_causal.Gemma4Attention.__init__)
    own = "config.sliding_window if layer_type" in source
    return CONFIG.sliding_window if own else gemma4_causal.get_attention_sliding_window_size(CONFIG)


def server():
    """A request of TOKENS tokens in a real allocator over a real pool, and what `_evict_swa` asks of its batch."""
    sizes = {"size": 2 * TOKENS, "size_swa": 2 * TOKENS, "page_size": PAGE}
    pool = SWAKVPool(
        **sizes,
        dtype=torch.float32,
        head_num=1,
        head_dim=1,
        swa_attention_layer_ids=[0],
        full_attention_layer_ids=[1],
        enable_kvcache_transpose=False,
        device="cpu",
    )
    allocator = SWATokenToKVPoolAllocator(**sizes, dtype=torch.float32, device="cpu", kvcache=pool, need_sort=False)
    slots = allocator.full_attn_allocator.alloc(TOKENS)
    allocator.full_to_swa_index_mapping[slots] = allocator.swa_attn_allocator.alloc(TOKENS)
    cache = SimpleNamespace(
        supports_swa=lambda: True,
        page_size=PAGE,
        sliding_window_size=gemma4_causal.get_attention_sliding_window_size(CONFIG),
    )
    rows = SimpleNamespace(req_to_token=slots[None].to(torch.int32))
    batch = SimpleNamespace(tree_cache=cache, req_to_token_pool=rows, token_to_kv_pool_allocator=allocator)
    return batch, slots


def keys_in_the_dummy_page(position):
    """Of a sliding layer's window at this decode position, right after the eviction that came before it."""
    batch, slots = server()
    request = SimpleNamespace(req_pool_idx=0, cache_protected_len=0, swa_evicted_seqlen=0)
    ScheduleBatch._evict_swa(batch, request, position)  # as maybe_evict_swa calls it: req.seqlen - 1
    window = slots[position - window_of_the_kernel() : position + 1]
    return int((batch.token_to_kv_pool_allocator.full_to_swa_index_mapping[window] < PAGE).sum())


def test_no_key_of_the_window_is_freed():
    found = {position: keys_in_the_dummy_page(position) for position in range(1024, 1024 + 2 * PAGE)}
    bad = {position: keys for position, keys in found.items() if keys}
    assert not bad, f"positions whose window reads the dummy page, and how many of its keys: {bad}"
