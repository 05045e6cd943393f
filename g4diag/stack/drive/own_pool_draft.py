"""The twin: a draft that keeps K/V of its own, in a full-only pool, while sharing the target's SWA allocator.

That is EAGLE's arrangement (sglang #25103): its ids are full-space and its tables must not be translated. It
follows every target forward with one of its own on the same slots, then drafts one token through a draft-decode
table. Followed, not owned: register it on `Serving.followers`.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import Any

import torch

from g4diag.stack.drive import cpu
from g4diag.stack.drive.attention_backends import attention_backend
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.forwards import plan_capture, plan_replay
from g4diag.stack.drive.reference import LogicalBackend, LogicalKV
from g4diag.stack.drive.serving import Serving
from g4diag.stack.drive.warm import warm
from g4diag.stack.pairs import tiny_gemma


class OwnPoolDraft:
    """Build it under the state to test. Its layer ids are layers of the target too, as on a real server. windowed:
    whether one of its two layers is sliding."""

    def __init__(self, serving: Serving, windowed: bool = True) -> None:
        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool

        self.serving = serving
        first = "sliding" if windowed else "full"
        config, self.model = tiny_gemma.own_pool_draft_model(serving.geometry.window, serving.seed, first)
        self.kv_pool = MHATokenToKVPool(
            size=serving.geometry.full_tokens,
            page_size=serving.geometry.page_size,
            dtype=torch.float32,
            head_num=config.num_key_value_heads,
            head_dim=config.head_dim,
            layer_num=config.num_hidden_layers,
            device="cpu",
            enable_memory_saver=False,
        )
        warm(self.kv_pool, serving.seed + 3)
        self.logical = LogicalKV(capacity=serving.geometry.context)
        self.logical.follow(self.kv_pool)
        self.runner = cpu.model_runner(
            self.model,
            config,
            serving.args,
            request_pool=serving.request_pool,
            allocator=serving.allocator,
            kv_pool=self.kv_pool,
            context_len=serving.geometry.context,
            is_draft=True,
            algorithm="EAGLE",
        )
        if not windowed:
            self.runner.sliding_window_size = None
        self.backend = self.runner.attn_backend = attention_backend(
            serving.backend_name, self.runner, serving.geometry.draft_steps
        )
        driver().finish_runner(self.runner)
        self._has_buffers = False
        self._batch: Any = None
        self._failed: Exception | None = None
        serving.followers.append(self)

    def after_prefill(self, batch: Any, rows: list[tuple[str, int, int]]) -> None:
        """Write this chunk's own K/V at the target's slots. rows: (rid, first position, end) of the batch."""
        forward_batch = driver().forward_batch(batch, self.runner, "NULL")
        with self.logical.placed(rows):
            try:
                self.runner.forward(forward_batch)
            except Exception as error:  # of the draft, so it is told when the draft is asked: see `eager` and `graph`
                self._failed = self._failed or error

    def after_decode(self, batch: Any, rows: list[tuple[str, int, int]]) -> None:
        """Keep the batch whose new slots the next draft step writes and reads."""
        self._batch, self._rows = copy.copy(batch), rows

    def eager(self) -> torch.Tensor:
        """Draft tokens int64 [B, 1] through eager metadata. Raises what its prefill did."""
        return self._draft(self.backend, lambda batch: self.backend.init_forward_metadata(batch))

    def graph(self) -> torch.Tensor:
        """The same through graph buffers: captured at this batch size, then replayed. Raises what a backend
        without graphs does."""

        def plan(batch: Any) -> None:
            if not self._has_buffers:
                live = self.serving.geometry.live
                self.backend.init_cuda_graph_state(live, live)
                self._has_buffers = True
            plan_capture(self.backend, batch)
            plan_replay(self.backend, batch)

        return self._draft(self.backend, plan)

    def truth(self) -> torch.Tensor:
        """The same with attention over logical K/V, no page table anywhere. Empty if its prefill wrote none."""
        if self._failed is not None:
            return torch.empty((0, 1), dtype=torch.int64)
        backend = _WritingLogicalBackend(self.logical, self.serving.rid_of, self.kv_pool)
        return self._draft(backend, lambda batch: None)

    def _draft(self, backend: Any, plan: Any) -> torch.Tensor:
        from sglang.srt.model_executor.forward_context import ForwardContext, forward_context

        if self._failed is not None:
            raise self._failed
        batch = self._forward_batch()
        plan(batch)
        batch.mark_forward_metadata_ready()
        context: AbstractContextManager[Any] = forward_context(ForwardContext(attn_backend=backend))
        with context, self.logical.placed(self._rows):
            output = self.runner.forward(batch).logits_output
        return output.next_token_logits.argmax(dim=-1, keepdim=True)

    def _forward_batch(self) -> Any:
        from sglang.srt.speculative.eagle_info import EagleDraftInput

        batch = copy.copy(self._batch)
        batch.spec_info = EagleDraftInput()
        # Draft decode counts the token it writes itself: step 0 reads seq_lens + 1 keys.
        batch.seq_lens, batch.seq_lens_cpu = batch.seq_lens - 1, batch.seq_lens_cpu - 1
        batch.seq_lens_sum = int(batch.seq_lens_cpu.sum())
        forward_batch = driver().forward_batch(batch, self.runner, "NULL")
        forward_batch.positions = batch.seq_lens.clone()
        return forward_batch


class _WritingLogicalBackend(LogicalBackend):
    """The logical truth for a draft that writes the token it drafts from."""

    def __init__(self, kv: LogicalKV, rid_of: dict[int, str], kv_pool: Any) -> None:
        super().__init__(kv, rid_of)
        self._pool = kv_pool
        self.extra_keys = 1

    def forward(self, q: Any, k: Any, v: Any, layer: Any, forward_batch: Any, save_kv_cache: bool = True) -> Any:
        """RadixAttention's entry; the write goes through the real pool, which records it."""
        self._pool.set_kv_buffer(layer, forward_batch.out_cache_loc, k, v)
        return super().forward(q, k, v, layer, forward_batch)
