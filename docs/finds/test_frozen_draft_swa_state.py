"""sglang 0.5.22 and 0.5.23: a frozen-KV draft's fa4 backend takes its SWA state from its own pool. Runs without a GPU.

    python -m pytest test_frozen_draft_swa_state.py        # fails while the bug is there

The runner below is what FlashAttentionBackend.__init__ asks of a draft's ModelRunner, with real pools: the draft's own
is a plain one, and its allocator, which is the target's, has an SWA pool. That one is what the draft will read:
frozen_kv_target_view puts it in the backend's `token_to_kv_pool`.
"""

import sys
from types import ModuleType, SimpleNamespace

import pytest
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

SIZES = {"size": 1024, "size_swa": 256, "page_size": 16}
LAYERS = {"swa_attention_layer_ids": [0], "full_attention_layer_ids": [1]}


@pytest.fixture
def context():
    from sglang.srt.runtime_context import get_context

    override = get_context().override_server_args(
        model_path="none",
        device="cpu",
        speculative_algorithm="FROZEN_KV_MTP",
        speculative_num_steps=3,
        speculative_eagle_topk=1,
        speculative_num_draft_tokens=4,
        page_size=16,
    )
    override.install()
    get_context().parallel.override_permanently(tp_rank=0, attn_tp_rank=0, attn_cp_rank=0)
    yield
    override.restore()


def runner(pools, is_draft):
    from sglang.srt.configs.model_config import AttentionArch
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

    text = SimpleNamespace(num_attention_heads=2)
    config = SimpleNamespace(
        is_encoder_decoder=False,
        context_len=512,
        attention_arch=AttentionArch.MHA,
        head_dim=16,
        hf_text_config=text,
        get_num_kv_heads=lambda *sizes: 2,
        is_local_attention_model=False,
    )
    return SimpleNamespace(
        sliding_window_size=127,
        model_config=config,
        device="cpu",
        kv_cache_dtype=torch.float32,
        kv_cache_dtype_str="auto",
        page_size=16,
        is_draft_worker=is_draft,
        kv_index_translator=None,
        gpu_id=0,
        spec_algorithm=SpeculativeAlgorithm.FROZEN_KV_MTP,
        attention_chunk_size=None,
        **pools,
    )


def test_the_state_is_that_of_the_pool_the_draft_reads(context):
    fa = pytest.importorskip("sglang.srt.layers.attention.flashattention_backend")
    from sglang.srt.mem_cache.allocator.swa import SWATokenToKVPoolAllocator
    from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, ReqToTokenPool
    from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

    shape = {"dtype": torch.float32, "head_num": 2, "head_dim": 16, "device": "cpu"}
    target = SWAKVPool(**SIZES, **LAYERS, **shape)
    allocator = SWATokenToKVPoolAllocator(**SIZES, dtype=torch.float32, device="cpu", kvcache=target, need_sort=False)
    own = MHATokenToKVPool(64, 16, layer_num=2, enable_memory_saver=False, **shape)
    rows = ReqToTokenPool(4, 512, "cpu", False)
    pools = {"req_to_token_pool": rows, "token_to_kv_pool_allocator": allocator}

    of_target = fa.FlashAttentionBackend(runner(pools | {"token_to_kv_pool": target}, False), fa_impl_ver=4)
    of_draft = fa.FlashAttentionBackend(runner(pools | {"token_to_kv_pool": own}, True), fa_impl_ver=4)
    assert of_target.use_sliding_window_kv_pool
    of_draft.token_to_kv_pool = target  # as frozen_kv_target_view does for each draft forward
    assert of_draft.use_sliding_window_kv_pool, "its sliding layers will be handed full-space page ids"
