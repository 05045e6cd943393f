"""0.5.13: graph runners whose graphs are closures, what they are captured over, and the batches that they replay."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive.captured_metadata import on_captured_metadata


def graph_runner(worker: Any) -> Any:
    """The real graph runner with capture and replay overridden: a "graph" is the captured closure, called again over
    the same static buffers."""
    from sglang.srt.speculative.frozen_kv_mtp_cuda_graph_runner import FrozenKVMTPCudaGraphRunner

    return _closure_runner(FrozenKVMTPCudaGraphRunner, worker, worker.draft_attn_backend)


def extend_runner(worker: Any) -> Any:
    """The same of an EAGLE draft's extend. worker: what its constructor reads of one."""
    from sglang.srt.speculative.eagle_draft_extend_cuda_graph_runner import EAGLEDraftExtendCudaGraphRunner

    return _closure_runner(EAGLEDraftExtendCudaGraphRunner, worker, worker.draft_extend_attn_backend)


def steps_runner(worker: Any) -> Any:
    """The same of an EAGLE draft's steps. worker: an EagleDraftWorker, as far as it drafts."""
    from sglang.srt.speculative.eagle_draft_cuda_graph_runner import EAGLEDraftCudaGraphRunner

    return _closure_runner(EAGLEDraftCudaGraphRunner, worker, worker.draft_attn_backend)


def steps_batch(batch: Any, worker: Any, graphs: Any, **proposal: Any) -> Any:
    """The ForwardBatch by which it drafts for a ScheduleBatch, as sglang makes it. proposal: topk_p and topk_index [B,
    topk], hidden_states [B, width]."""
    from sglang.srt.speculative.eagle_info import EagleDraftInput

    batch.spec_info = EagleDraftInput(**proposal)
    rows, runner, sizes = worker.req_to_token_pool, worker.draft_runner, (worker.topk, worker.speculative_num_steps)
    made, is_replayed = batch.spec_info.prepare_for_v2_draft(rows, batch, graphs, runner, *sizes)
    assert is_replayed
    return made


def _closure_runner(runner: Any, worker: Any, attention: Any) -> Any:
    from sglang.srt.distributed import parallel_state

    class ClosureGraphRunner(runner):
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
            graph.run_once = on_captured_metadata(attention, run_once_fn)
            return run_once_fn()

        def _replay(self, *args: Any) -> None:
            self.output_buffers[self.bs] = self.graphs[self.bs].run_once()

    assert parallel_state.model_parallel_is_initialized()
    return ClosureGraphRunner(worker)


def extend_batch(batch: Any, runner: Any, graphs: Any, hidden: Any, accepted_B: Any) -> Any:
    """The ForwardBatch of an EAGLE draft's extend over what a verify looked at, as sglang makes it. batch: with the
    slots of those tokens, and lengths without them. hidden: [tokens, width of the target's states]. accepted_B: int32
    [B]."""
    import torch
    from sglang.srt.speculative.eagle_info import EagleDraftInput

    width = len(hidden) // len(accepted_B)
    extend = EagleDraftInput(hidden_states=hidden, num_tokens_per_req=width, num_tokens_for_logprob_per_req=width)
    tokens = torch.zeros(len(hidden), dtype=torch.int64)
    made = extend.prepare_for_extend_to_fill_draft_kvcache(batch, tokens, width, runner, graphs)
    made.spec_info.num_correct_drafts, made.spec_info.num_accept_tokens = accepted_B - 1, accepted_B
    return made


def replay(graphs: Any, batch: Any) -> Any:
    """Run a batch through a graph runner's captured graphs."""
    return graphs.replay(batch)


def replay_extend(graphs: Any, batch: Any) -> Any:
    """Run such a batch through the graphs of `extend_runner`, whose closures look their backend up."""
    from sglang.srt.model_executor.forward_context import ForwardContext, forward_context

    with forward_context(ForwardContext(attn_backend=graphs.draft_extend_attn_backend)):
        return graphs.replay(batch)


def plan_graph(backend: Any, batch: Any, *, in_capture: bool) -> None:
    """Make the metadata that a graph is captured over, or bring it up to a batch."""
    backend.init_forward_metadata_out_graph(batch, in_capture=in_capture)
