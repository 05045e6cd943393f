"""A target, its frozen-KV draft and an EAGLE draft around one tiny set of pools: what the backend machines stand on.

Pools, allocator, request rows, runners, backends, worker and graph runner are sglang's own. The model is two attention
layers and nothing else, one sliding and one full, of one head of one element: the K of a token is its token id.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive.attention_backends import attention_backend, has_graphs, make_graph_buffers
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.swa_pool import build

ROWS = 4
SLIDING, FULL = 0, 1
_VOCAB = 4


@dataclass(frozen=True)
class Sizes:
    """page_size, context, window in tokens; a query sees `window` keys left of it. Pools in pages. drafts: tokens a
    verify looks at, the last accepted one included. verify_in: --speculative-attention-mode. topk: branches of a draft
    step."""

    page_size: int
    full_pages: int
    swa_pages: int
    context: int
    window: int
    drafts: int
    verify_in: str = "prefill"
    topk: int = 1


class TwoLayers:
    """A model in the place of a checkpoint's. window: -1 for two full layers. own_kv: each token writes its id as K.
    raises: what to raise between the layers."""

    backbone_hidden_size = 1
    raises: Exception | None = None

    def __init__(self, window: int, own_kv: bool) -> None:
        from sglang.srt.layers.radix_attention import RadixAttention

        self.window, self.own_kv = window, own_kv
        self.layers = [
            RadixAttention(1, 1, 1.0, 1, layer_id=layer, sliding_window_size=window if layer == SLIDING else -1)
            for layer in (SLIDING, FULL)
        ]

    def modules(self) -> list[Any]:
        """Its layers, as torch's own has it."""
        return self.layers

    def get_attention_sliding_window_size(self) -> int | None:
        return None if self.window < 0 else self.window

    def forward(self, input_ids: Any, positions: Any, forward_batch: Any) -> Any:
        """Logits and hidden states of zeros; what counts is what the layers are handed."""
        import torch
        from sglang.srt.layers.logits_processor import LogitsProcessorOutput

        k = input_ids.to(torch.float32)[:, None] if self.own_kv else None
        q = torch.zeros(len(input_ids), 1)
        for layer in self.layers:
            layer(q, k, k, forward_batch, save_kv_cache=self.own_kv)
            if self.raises is not None:
                raise self.raises
        return LogitsProcessorOutput(torch.zeros(len(input_ids), _VOCAB), hidden_states=q)


class Rig:
    """One server's worth. wrapped: the target's backend is a HybridAttnBackend of two. attention: which backend, by the
    name that flags have. Drafts are made when first asked for."""

    def __init__(self, sizes: Sizes, wrapped: bool = False, attention: str = "trtllm_mha") -> None:
        from sglang.srt.mem_cache.memory_pool import ReqToTokenPool

        from g4diag.stack.drive import cpu

        self.sizes, self.attention = sizes, attention
        self.args = cpu.server_args(
            page_size=sizes.page_size,
            attention_backend="torch_native",
            speculative_algorithm="FROZEN_KV_MTP",
            speculative_num_steps=sizes.drafts - 1,
            speculative_eagle_topk=sizes.topk,
            speculative_num_draft_tokens=sizes.drafts,
            **driver().FIXTURES.speculation(sizes.drafts),
            speculative_attention_mode=sizes.verify_in,
            swa_full_tokens_ratio=sizes.swa_pages / sizes.full_pages,
            cuda_graph_bs=[1, 2, ROWS],
            disable_overlap_schedule=True,
        )
        cpu.start_process(self.args)
        self.allocator = build(sizes.page_size, sizes.full_pages, sizes.swa_pages, need_sort=False)
        self.pool = self.allocator.get_kvcache()
        width = sizes.context + driver().row_headroom(self.args)
        self.rows = ReqToTokenPool(ROWS, width, "cpu", False)
        self.runner = self._runner(TwoLayers(sizes.window, own_kv=True), self.pool, algorithm="FROZEN_KV_MTP")
        self.backend = self.runner.attn_backend = backend(self.runner, wrapped, attention)
        driver().finish_runner(self.runner)
        if has_graphs(attention):
            make_graph_buffers(self.backend, ROWS, ROWS * sizes.drafts)

    def frozen(self, wrapped: bool = False) -> Any:
        """A frozen-KV draft's worker bound to the target, made without its constructor; no graph runner yet."""
        from sglang.srt.speculative.frozen_kv_mtp_info import FrozenKVMTPContext

        from g4diag.stack.drive.frozen_draft import OWN_POOL_TOKENS

        runner = self._runner(
            TwoLayers(self.sizes.window, own_kv=False),
            self._plain_pool(OWN_POOL_TOKENS),
            "FROZEN_KV_MTP",
            is_draft=True,
        )
        runner.attn_backend = backend(runner, wrapped, self.attention)
        driver().finish_runner(runner)
        context = FrozenKVMTPContext(self.pool, {SLIDING: SLIDING, FULL: FULL})
        return driver().FIXTURES.frozen_worker(self.args, runner, context)

    def twin(self) -> Any:
        """The runner of an EAGLE draft, full throughout, with K/V of its own in a pool that sglang's own code sizes."""
        from g4diag.stack.drive.backends import give_pools  # which imports torch, and a fixture's file does not

        runner = self._runner(TwoLayers(-1, own_kv=True), None, "EAGLE", is_draft=True)
        tokens, ratio = self.sizes.full_pages * self.sizes.page_size, self.args.swa_full_tokens_ratio
        give_pools(runner, driver().FIXTURES.draft_sizes(self.runner, self._target_config(), tokens, ratio))
        runner.attn_backend = backend(runner, False, self.attention)
        driver().finish_runner(runner)
        runner.attn_backend.init_cuda_graph_state(ROWS, ROWS * self.sizes.drafts)
        return runner

    def _target_config(self) -> Any:
        """What a configurator of pools reads of the target's model."""
        ones = ("head_dim", "v_head_dim", "swa_head_dim", "swa_v_head_dim")
        return SimpleNamespace(
            full_attention_layer_ids=[FULL],
            swa_attention_layer_ids=[SLIDING],
            attention_arch=None,
            get_num_kv_heads=lambda tp_size: 1,
            get_swa_num_kv_heads=lambda tp_size: 1,
            **dict.fromkeys(ones, 1),
        )

    def _plain_pool(self, tokens: int) -> Any:
        import torch
        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool

        return MHATokenToKVPool(
            size=math.ceil(tokens / self.sizes.page_size) * self.sizes.page_size,
            page_size=self.sizes.page_size,
            dtype=torch.float32,
            head_num=1,
            head_dim=1,
            layer_num=2,
            device="cpu",
            enable_memory_saver=False,
        )

    def _runner(self, model: TwoLayers, kv_pool: Any, algorithm: str, is_draft: bool = False) -> Any:
        import torch

        from g4diag.stack.drive import cpu

        config = SimpleNamespace(
            hidden_size=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=1,
            vocab_size=_VOCAB,
            dtype=torch.float32,
        )
        return cpu.model_runner(
            model,
            config,
            self.args,
            request_pool=self.rows,
            allocator=self.allocator,
            kv_pool=kv_pool,
            context_len=self.sizes.context,
            is_draft=is_draft,
            algorithm=algorithm,
        )


def backend(runner: Any, wrapped: bool = False, attention: str = "trtllm_mha") -> Any:
    """The runner's backend. wrapped: as when prefill and decode are asked to have different ones."""
    from sglang.srt.layers.attention.hybrid_attn_backend import HybridAttnBackend

    decode = attention_backend(attention, runner)
    return HybridAttnBackend(runner, attention_backend(attention, runner), decode) if wrapped else decode
