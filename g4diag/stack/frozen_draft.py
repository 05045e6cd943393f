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
from types import SimpleNamespace
from typing import Any

import torch

from g4diag.stack import cpu, tiny_gemma
from g4diag.stack.reference import LogicalBackend
from g4diag.stack.serving import Serving, warm

OWN_POOL_TOKENS = 64  # what FrozenKVMTPWorker asks for: its draft never writes K/V


class FrozenDraft:
    """A draft bound to a `Serving` target. Build it under the state to test: the backend resolves its SWA
    state in its constructor, and the graph runner sizes its buffers in its own."""

    def __init__(self, serving: Serving) -> None:
        from sglang.srt.layers.attention.trtllm_mha_backend import TRTLLMHAAttnBackend
        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool

        self.serving = serving
        config, model = tiny_gemma.assistant_model(serving.geometry.window, serving.seed)
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
        runner.attn_backend = TRTLLMHAAttnBackend(runner)
        self.backend = runner.attn_backend
        self.worker = self._worker(runner)
        self.worker.cuda_graph_runner = _closure_graph_runner(self.worker)

    def _worker(self, runner: Any) -> Any:
        from sglang.srt.speculative.frozen_kv_mtp_worker import FrozenKVMTPWorker

        args = self.serving.args
        worker = object.__new__(FrozenKVMTPWorker)
        worker.__dict__.update(
            server_args=args,
            topk=args.speculative_eagle_topk,
            speculative_num_steps=args.speculative_num_steps,
            speculative_num_draft_tokens=args.speculative_num_draft_tokens,
            device="cpu",
            page_size=args.page_size,
            target_worker=SimpleNamespace(model_runner=self.serving.runner, device="cpu"),
            req_to_token_pool=self.serving.request_pool,
            token_to_kv_pool_allocator=self.serving.allocator,
            _model_runner=runner,
            kv_context=None,
        )
        runner.model.set_embed_and_head(*self.serving.model.get_embed_and_head())
        worker._bind_kv_context()
        worker.draft_attn_backend = worker._init_draft_attn_backend()
        return worker

    def eager(self) -> torch.Tensor:
        """Draft tokens int64 [B, steps] for the running batch, through eager metadata."""
        return self._tokens(self.worker.draft_forward)

    def graph(self) -> torch.Tensor:
        """The same through the graph runner's padded static buffers."""
        return self._tokens(self.worker.cuda_graph_runner.replay)

    def truth(self) -> torch.Tensor:
        """The same with attention over logical K/V, no page table anywhere."""
        logical = LogicalBackend(self.serving.logical, self.serving.rid_of)
        with self._backend_swapped(logical):
            return self._tokens(self.worker.draft_forward)

    def _tokens(self, run: Callable[[Any], Any]) -> torch.Tensor:
        _, _, tokens = run(self._forward_batch())
        return tokens[: len(self.serving.running.reqs)].clone()

    def _forward_batch(self) -> Any:
        from sglang.srt.model_executor.forward_batch_info import CaptureHiddenMode, ForwardBatch, ForwardMode
        from sglang.srt.speculative.frozen_kv_mtp_info import FrozenKVMTPDraftInput

        batch = copy.copy(self.serving.running)
        batch.forward_mode = ForwardMode.DECODE
        batch.out_cache_loc = None  # 0.5.13's draft() leaves the verify's here: FACTS 2b, another scenario's
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
        forward_batch = ForwardBatch.init_new(batch, self.worker.draft_model_runner)
        self.worker._set_positions(forward_batch)
        return forward_batch

    @contextmanager
    def _backend_swapped(self, backend: Any) -> Iterator[None]:
        saved = self.worker.draft_attn_backend
        self.worker.draft_attn_backend = backend
        try:
            yield
        finally:
            self.worker.draft_attn_backend = saved


def _closure_graph_runner(worker: Any) -> Any:
    from sglang.srt.distributed import parallel_state
    from sglang.srt.speculative.frozen_kv_mtp_cuda_graph_runner import FrozenKVMTPCudaGraphRunner

    class ClosureGraphRunner(FrozenKVMTPCudaGraphRunner):
        """A graph is the captured closure and the outputs it left."""

        def capture(self) -> None:
            self.stream = None
            for bs in reversed(self.capture_bs):
                self.graphs[bs], self.output_buffers[bs] = self.capture_one_batch_size(bs, None)

        def _create_graph(self) -> Any:
            return SimpleNamespace(run_once=None, pool=lambda: None)

        def _capture_init(self, run_once_fn: Any) -> None:
            run_once_fn()

        def _capture_graph(self, graph: Any, pool: Any, stream: Any, run_once_fn: Any) -> Any:
            graph.run_once = run_once_fn
            return run_once_fn()

        def _replay(self) -> None:
            self.output_buffers[self.bs] = self.graphs[self.bs].run_once()

    assert parallel_state.model_parallel_is_initialized()
    return ClosureGraphRunner(worker)
