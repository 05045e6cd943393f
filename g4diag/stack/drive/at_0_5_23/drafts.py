"""0.5.23: batches, frozen-KV drafts and graphs. See `at_0_5_13` for what each is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive.captured_metadata import on_captured_metadata

_ROWS = 64  # of logits, in the buffer that graph runners of one process share


def forward_batch(batch: Any, runner: Any, hidden: str) -> Any:
    from sglang.srt.model_executor.forward_batch_info import CaptureHiddenMode, ForwardBatch

    mode = None if hidden == "NULL" else CaptureHiddenMode[hidden]
    return ForwardBatch.init_new(batch, runner, capture_hidden_mode=mode, return_hidden_states_before_norm=False)


def bind_plan(runner: Any, batch: Any) -> None:
    runner.kv_index_translator.bind_own_plan(batch)


def handed_to_draft(worker: Any, batch: Any) -> Any:
    """Its own draft() is called, up to the loop."""
    graphs, worker.cuda_graph_runner = worker.cuda_graph_runner, None
    worker.draft_forward = _hand_over
    try:
        worker.draft(batch)
    except _HandedOver as handed:
        return handed.batch
    finally:
        del worker.draft_forward
        worker.cuda_graph_runner = graphs
    raise AssertionError("a draft() that never came to its loop")


class _HandedOver(Exception):
    def __init__(self, batch: Any) -> None:
        self.batch = batch


def _hand_over(batch: Any) -> Any:
    raise _HandedOver(batch)


def draft_worker(
    args: Any, target_runner: Any, draft_runner: Any, *, request_pool: Any, allocator: Any, target_model: Any
) -> Any:
    from sglang.srt.speculative.frozen_kv_mtp_worker_v2 import FrozenKVMTPDraftWorker

    worker = object.__new__(FrozenKVMTPDraftWorker)
    worker.__dict__.update(
        server_args=args,
        topk=args.speculative_eagle_topk,
        speculative_num_steps=args.speculative_num_steps,
        speculative_num_draft_tokens=args.speculative_num_draft_tokens,
        device="cpu",
        page_size=args.page_size,
        target_worker=SimpleNamespace(model_runner=target_runner, device="cpu"),
        req_to_token_pool=request_pool,
        token_to_kv_pool_allocator=allocator,
        _model_runner=draft_runner,
        kv_context=None,
        hot_token_id=None,
    )
    draft_runner.model.set_embed_and_head(*target_model.get_embed_and_head())
    worker._bind_kv_context()
    worker.draft_attn_backend = worker._init_draft_attn_backend()
    return worker


def graph_runner(worker: Any) -> Any:
    from sglang.srt.speculative import frozen_kv_mtp_cuda_graph_runner as module

    return _closure_runner(module, module.FrozenKVMTPCudaGraphRunner, worker, worker.draft_attn_backend)


def extend_runner(worker: Any) -> Any:
    import torch
    from sglang.srt.model_executor.graph_shared_output import GraphSharedOutput
    from sglang.srt.speculative import eagle_draft_extend_cuda_graph_runner as module

    worker.draft_runner.graph_shared_output = GraphSharedOutput(device=torch.device("cpu"), max_rows=_ROWS)
    return _closure_runner(module, module.EAGLEDraftExtendCudaGraphRunner, worker, worker.draft_extend_attn_backend)


def steps_runner(worker: Any) -> Any:
    from sglang.srt.speculative import eagle_draft_cuda_graph_runner as module

    return _closure_runner(module, module.EAGLEDraftCudaGraphRunner, worker, worker.draft_attn_backend)


def steps_batch(batch: Any, worker: Any, graphs: Any, **proposal: Any) -> Any:
    from sglang.kernels.ops.speculative import cache_locs
    from sglang.srt.speculative.eagle_info import EagleDraftInput
    from sglang.srt.speculative.eagle_worker_common import prepare_for_draft

    batch.spec_info = EagleDraftInput(**proposal)
    rows, runner, sizes = worker.req_to_token_pool, worker.draft_runner, (worker.topk, worker.speculative_num_steps)
    with by_triton(cache_locs):
        made, is_replayed, _ = prepare_for_draft(batch.spec_info, rows, batch, graphs, runner, *sizes)
    assert is_replayed
    return made


@contextmanager
def by_triton(module: Any) -> Iterator[None]:
    """For the body, its functions call the kernels that a GPU has, interpreted: a CPU's are compiled."""
    known, module._is_cpu = module._is_cpu, False
    try:
        yield
    finally:
        module._is_cpu = known


def _closure_runner(module: Any, runner: Any, worker: Any, attention: Any) -> Any:
    class ClosureGraphRunner(runner):
        """Captures each size in turn, largest first, without a stream."""

        def capture(self) -> None:
            for size in reversed(self.capture_bs):
                self.capture_one_shape(size, None)

    with _closures(module, attention):
        return ClosureGraphRunner(worker)


def extend_batch(batch: Any, runner: Any, graphs: Any, hidden: Any, accepted_B: Any) -> Any:
    import torch
    from sglang.srt.speculative.eagle_info import EagleDraftExtendInput
    from sglang.srt.speculative.eagle_worker_common import prepare_for_draft_extend

    width = len(hidden) // len(accepted_B)
    extend = EagleDraftExtendInput(
        hidden_states=hidden,
        num_correct_drafts=accepted_B - 1,
        num_accept_tokens=accepted_B,
        num_tokens_per_req=width,
        num_tokens_for_logprob_per_req=width,
    )
    tokens = torch.zeros(len(hidden), dtype=torch.int64)
    return prepare_for_draft_extend(
        extend, batch, tokens, width, runner, graphs, return_hidden_states_before_norm=False
    )


def replay_extend(graphs: Any, batch: Any) -> Any:
    import torch
    from sglang.srt.model_executor.forward_context import ForwardContext, forward_context

    width = batch.input_ids.shape[0] // max(batch.batch_size, 1)
    with forward_context(ForwardContext(attn_backend=graphs.draft_extend_attn_backend)):
        return graphs.execute(batch, torch.arange(1, batch.batch_size + 1) * width - 1)


def fused_write() -> AbstractContextManager[None]:
    from sglang.kernels.ops.kvcache import fused_fp8_qkv_kv_cache as module

    return fused_write_of(module)


@contextmanager
def fused_write_of(module: Any) -> Iterator[None]:
    """It is compiled for CUDA; what calls it is sglang's, what stands for it does the same in torch."""
    compiled, pdl = module._jit_fused_fp8_qkv_kv_cache_module, module.is_arch_support_pdl
    vars(module).update(_jit_fused_fp8_qkv_kv_cache_module=lambda *_: _FusedWrite, is_arch_support_pdl=lambda: False)
    try:
        yield
    finally:
        vars(module).update(_jit_fused_fp8_qkv_kv_cache_module=compiled, is_arch_support_pdl=pdl)


class _FusedWrite:
    @staticmethod
    def fused_fp8_qkv_kv_cache(
        q: Any, k: Any, v: Any, q_out: Any, k_cache: Any, v_cache: Any, slots: Any, k_scale: Any, v_scale: Any
    ) -> None:
        """Rows of K and V over their scales, in FP8, to these slots; those of q as they are, in FP8, to q_out."""
        import torch

        for rows, cache, scale in ((k, k_cache, k_scale), (v, v_cache, v_scale)):
            cache.view(torch.uint8)[slots] = (rows.float() / scale).to(cache.dtype).view(torch.uint8)
        if q_out is not None:
            q_out.copy_(q.to(q_out.dtype))


def plan_graph(backend: Any, batch: Any, *, in_capture: bool) -> None:
    backend.init_forward_metadata_out_graph(batch, in_capture=in_capture)
    backend.init_forward_metadata_in_graph(batch)  # recorded in the graph, and run by each replay


def replay(graphs: Any, batch: Any) -> Any:
    return graphs.execute(batch)


@contextmanager
def _closures(module: Any, attention: Any) -> Iterator[None]:
    """For the body, a graph runner is given a backend whose graphs are closures."""
    resolve = module.resolve_decode_backend
    module.resolve_decode_backend = lambda runner: Closures(attention)
    try:
        yield
    finally:
        module.resolve_decode_backend = resolve


class Closures:
    """A graph is the captured closure, called again over the same static buffers and on the metadata of its capture, as
    the kernels in a graph are. attention: the backend that has it."""

    def __init__(self, attention: Any) -> None:
        self._attention = attention
        self._graphs: dict[Any, Callable[[], Any]] = {}

    def capture_one(self, shape_key: Any, forward_fn: Callable[[], Any], *args: Any, **kwargs: Any) -> None:
        """Run once as a warm-up, once as the capture."""
        forward_fn()
        self._graphs[shape_key] = on_captured_metadata(self._attention, forward_fn)
        forward_fn()

    def can_run(self, forward_batch: Any, shape_key: Any) -> bool:
        """Whether that shape was captured."""
        return shape_key in self._graphs

    def replay(self, shape_key: Any, *args: Any, **kwargs: Any) -> Any:
        """The outputs of the captured closure over what the buffers hold now."""
        return self._graphs[shape_key]()
