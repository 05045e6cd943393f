"""The frozen-KV MTP draft on the CPU: sglang's own worker, views, binding and graph runner.

The worker is made without its constructor (it would load weights and start a second model worker); what the
constructor sets is set here, in its order, through its own methods. The graph runner is the real one with
`capture`, graph creation and replay overridden: a captured "graph" is the captured closure, called again over
the same static buffers. Metadata, buffers and padding are upstream's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from g4diag.stack.drive import cpu
from g4diag.stack.drive.attention_backends import attention_backend
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.reference import LogicalBackend
from g4diag.stack.drive.serving import Serving
from g4diag.stack.drive.warm import warm

_THROUGH_WRAPPER = "draft went through a hybrid wrapper"
_LEFT_BEHIND = "draft had write locations left on its batch"
OWN_POOL_TOKENS = 64  # what FrozenKVMTPWorker asks for: its draft never writes K/V


class FrozenDraft:
    """A draft bound to a `Serving` target. Build it under the state to test: the backend resolves its SWA
    state in its constructor, and the graph runner sizes its buffers in its own.

    hybrid: its backend is wrapped as when prefill and decode have different ones and the draft none of its own.
    layers: the assistant's; all but the last are sliding. input_copy: the runner's eager forward copies its inputs,
    as it does on CUDA only. written: write locations a request that the last target step leaves on the batch, as a
    verify that accepted one token fewer; 0: those that are really there, None: none.
    backend: its attention backend, the target's by default.
    evidence: how often what these make happen did.
    """

    def __init__(
        self,
        serving: Serving,
        *,
        hybrid: bool = False,
        layers: int = 2,
        input_copy: bool = False,
        written: int | None = None,
        backend: str = "",
    ) -> None:
        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool

        self.serving = serving
        self.evidence: dict[str, int] = {}
        self._written = written
        if hybrid:
            self.evidence[_THROUGH_WRAPPER] = 0
        if written is not None:
            self.evidence[_LEFT_BEHIND] = 0
        config, model = serving.pair.assistant_model(serving.geometry.window, serving.seed, layers)
        own_pool = MHATokenToKVPool(
            size=OWN_POOL_TOKENS,
            page_size=serving.geometry.page_size,
            dtype=torch.float32,
            head_num=config.num_key_value_heads,
            head_dim=config.head_dim,
            layer_num=config.num_hidden_layers,
            device="cpu",
            enable_memory_saver=False,
        )
        warm(own_pool, serving.seed + 3)
        runner = cpu.model_runner(
            model,
            config,
            serving.args,
            request_pool=serving.request_pool,
            allocator=serving.allocator,
            kv_pool=own_pool,
            context_len=serving.geometry.context,
            is_draft=True,
            algorithm="FROZEN_KV_MTP",
        )
        runner.attn_backend = self.backend = _backend(backend or serving.backend_name, runner, hybrid)
        driver().finish_runner(runner)
        if input_copy:
            driver().copy_eager_inputs(runner)
        self.worker = driver().draft_worker(
            serving.args,
            serving.runner,
            runner,
            request_pool=serving.request_pool,
            allocator=serving.allocator,
            target_model=serving.model,
        )
        self._unbuilt: Exception | None = None
        try:
            self.worker.cuda_graph_runner = driver().graph_runner(self.worker)
        except Exception as error:  # the constructor captures, so a draft that cannot run fails here; see `graph`
            self._unbuilt = error

    def eager(self) -> torch.Tensor:
        """Draft tokens int64 [B, steps] for the running batch, through eager metadata."""
        return self._tokens(self.worker.draft_forward, self._written)

    def graph(self) -> torch.Tensor:
        """The same through the graph runner's padded static buffers. Raises what its constructor did."""
        if self._unbuilt is not None:
            raise self._unbuilt
        return self._tokens(partial(driver().replay, self.worker.cuda_graph_runner), self._written)

    def prepared(self) -> Any:
        """The running batch as `eager` hands it to the worker's `draft_forward`."""
        return self._forward_batch(None)

    def truth(self) -> torch.Tensor:
        """The same with attention over logical K/V, no page table anywhere."""
        logical = LogicalBackend(self.serving.logical, self.serving.rid_of)
        with self._backend_swapped(logical):
            return self._tokens(self.worker.draft_forward, None)

    def _tokens(self, run: Callable[[Any], Any], written: int | None) -> torch.Tensor:
        if type(self.worker.draft_attn_backend).__name__ == "HybridAttnBackend":
            self.evidence[_THROUGH_WRAPPER] += 1
        _, _, tokens = run(self._forward_batch(written))
        return tokens[: len(self.serving.running.reqs)].clone()

    def _forward_batch(self, written: int | None) -> Any:
        from sglang.srt.model_executor.forward_batch_info import CaptureHiddenMode, ForwardMode
        from sglang.srt.speculative.frozen_kv_mtp_info import FrozenKVMTPDraftInput

        batch = copy.copy(self.serving.running)
        batch.forward_mode = ForwardMode.DECODE
        batch.out_cache_loc = self._write_locations(batch, written)
        batch.seq_lens, batch.seq_lens_cpu = batch.seq_lens.clone(), batch.seq_lens_cpu.clone()
        batch.seq_lens_sum = int(batch.seq_lens_cpu.sum())
        spec_info = FrozenKVMTPDraftInput()
        spec_info.bonus_tokens = torch.tensor([req.output_ids[-1] for req in batch.reqs], dtype=torch.int64)
        spec_info.hidden_states = torch.stack([self.serving.hidden[req.rid] for req in batch.reqs])
        spec_info.capture_hidden_mode = CaptureHiddenMode.LAST
        spec_info.num_tokens_per_req = 1
        spec_info.num_tokens_for_logprob_per_req = 1
        spec_info.positions = self.worker._position_for_batch(batch)
        batch.spec_info = spec_info
        batch.return_hidden_states = False
        if written is not None:
            return driver().handed_to_draft(self.worker, batch)
        forward_batch = driver().forward_batch(batch, self.worker.draft_model_runner, "NULL")
        self.worker._set_positions(forward_batch)
        return forward_batch

    def _write_locations(self, batch: Any, written: int | None) -> torch.Tensor | None:
        """What a verify or a prefill leaves on the batch, and 0.5.13's draft() hands on; None as if nothing."""
        found: torch.Tensor | None = batch.out_cache_loc if written is not None else None
        if written:
            slots = self.serving.request_pool.req_to_token
            rows = zip(batch.req_pool_indices.tolist(), batch.seq_lens.tolist(), strict=True)
            found = torch.cat([slots[row, end - written : end] for row, end in rows]).to(torch.int64)
        if found is not None:
            self.evidence[_LEFT_BEHIND] += 1
        return found

    @contextmanager
    def _backend_swapped(self, backend: Any) -> Iterator[None]:
        saved = self.worker.draft_attn_backend
        self.worker.draft_attn_backend = backend
        try:
            yield
        finally:
            self.worker.draft_attn_backend = saved


def _backend(name: str, runner: Any, hybrid: bool) -> Any:
    """What ModelRunner would give this draft; the same twice in the wrapper, whose first only a prefill asks."""
    from sglang.srt.layers.attention.hybrid_attn_backend import HybridAttnBackend

    decode = attention_backend(name, runner)
    return HybridAttnBackend(runner, attention_backend(name, runner), decode) if hybrid else decode
