"""The draft extend of an EAGLE draft of several models, one a step (multi-layer EAGLE), from 0.5.15 on.

Graph runners, buffers and padding are sglang's own; a "graph" is a closure over the static buffers.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive.at_0_5_23.drafts import Closures, by_triton
from g4diag.stack.drive.attention_backends import attention_backend
from g4diag.stack.drive.draft_extend import DraftExtend


class LayersExtend(DraftExtend):
    """The same of a draft of several models, one a step: all extend over one batch. Here each is the same model, with a
    backend of its own."""

    def _made(self, backend: str) -> tuple[Any, Any]:
        runner, steps = self.draft.runner, int(self.serving.args.speculative_num_steps)
        backends = [attention_backend(backend, runner) for _ in range(steps)]
        worker = SimpleNamespace(
            device="cpu",
            gpu_id=0,
            speculative_num_steps=steps,
            topk=int(self.serving.args.speculative_eagle_topk),
            draft_extend_attn_backend_list=backends,
            draft_extend_num_front_tokens=0,
            chain_mtp_hidden_states=False,
            use_rejection_sampling=False,
            mtp_model_runner=lambda step: runner,
        )
        return backends[0], _runner_of(worker)

    def replay(self, batch: Any) -> Any:
        """... of every step."""
        return _replay(self.graphs, batch)


def _runner_of(worker: Any) -> Any:
    """The graph runners of a draft of several models, one a step, and what drives them. worker: as far as they read
    one."""
    from sglang.srt.model_executor.forward_context import ForwardContext, forward_context
    from sglang.srt.speculative import multi_layer_eagle_draft_extend_cuda_graph_runner as module

    resolve, one = module.resolve_decode_backend, module.MultiLayerEagleDraftExtendCudaGraphRunner

    class ClosureGraphRunner(one):  # type: ignore[misc, valid-type]
        def capture(self) -> None:
            for size in reversed(self.capture_bs):
                self.capture_one_shape(size, None)

        def _replay_graph(self, *args: Any) -> Any:
            with forward_context(ForwardContext(attn_backend=self.attn_backend)):
                return super()._replay_graph(*args)

    vars(module).update(
        resolve_decode_backend=lambda runner: Closures(runner.attn_backend),
        MultiLayerEagleDraftExtendCudaGraphRunner=ClosureGraphRunner,
    )
    try:
        return module.MultiLayerEagleMultiStepDraftExtendCudaGraphRunner(worker)
    finally:
        vars(module).update(resolve_decode_backend=resolve, MultiLayerEagleDraftExtendCudaGraphRunner=one)


def _replay(graphs: Any, batch: Any) -> None:
    """The steps of its worker's loop: one batch prepared, a replay a step, tokens handed on between them."""
    from sglang.kernels.ops.speculative import multi_layer_eagle

    buffers = graphs.buffers
    graphs.prepare(batch)
    for step in range(graphs.speculative_num_steps):
        _, _, topk_index = graphs.replay(step)
        if step < graphs.speculative_num_steps - 1:
            rows = (buffers.extend_start_loc, buffers.extend_seq_lens)
            tokens, live = buffers.input_ids[: graphs.raw_num_tokens], graphs.raw_bs
            rest = (*(each[:live] for each in rows), topk_index, buffers.select_index[:live])
            with by_triton(multi_layer_eagle):
                multi_layer_eagle.rotate_input_ids(tokens, *rest)
