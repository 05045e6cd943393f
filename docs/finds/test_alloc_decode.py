"""sglang 0.5.12.post1 to 0.5.23: a refused SWATokenToKVPoolAllocator.alloc_decode keeps a page. Runs without a GPU.

python -m pytest test_alloc_decode.py        # fails while the bug is there
"""

import inspect
import os

os.environ.setdefault("TRITON_INTERPRET", "1")

import torch
from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

try:
    from sglang.srt.mem_cache.allocator.swa import SWATokenToKVPoolAllocator
except ImportError:
    from sglang.srt.mem_cache.swa_memory_pool import SWATokenToKVPoolAllocator

PAGE, FULL_PAGES, SWA_PAGES = 4, 4, 3


def allocator():
    sizes = {"size": FULL_PAGES * PAGE, "size_swa": SWA_PAGES * PAGE, "page_size": PAGE}
    older = {"enable_kvcache_transpose": False}
    more = {name: value for name, value in older.items() if name in inspect.signature(SWAKVPool).parameters}
    pool = SWAKVPool(
        **sizes,
        dtype=torch.float32,
        head_num=1,
        head_dim=1,
        swa_attention_layer_ids=[0],
        full_attention_layer_ids=[1],
        device="cpu",
        **more,
    )
    return SWATokenToKVPoolAllocator(**sizes, dtype=torch.float32, device="cpu", kvcache=pool, need_sort=False)


def test_a_refused_decode_takes_nothing():
    """Two requests of a page each; the next token of both needs two pages more, and the SWA pool has one."""
    made = allocator()
    lens, none = torch.tensor([4, 4]), torch.tensor([0, 0])
    slots = made.alloc_extend(none, none, lens, lens, torch.tensor([-1, -1]), 8)
    before = made.full_available_size()
    assert before == (FULL_PAGES - 2) * PAGE
    assert made.alloc_decode(lens + 1, lens + 1, slots[[3, 7]]) is None
    assert made.full_available_size() == before
