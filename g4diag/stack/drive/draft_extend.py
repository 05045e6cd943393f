"""The draft extend of an EAGLE draft: after a verify, all tokens that were looked at, into the draft's own K/V.

A follower's last tokens stand for those of a verify. Batch, graph runner, buffers and padding are sglang's own; a
"graph" is a closure over the static buffers.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import torch

from g4diag.stack.drive.attention_backends import attention_backend
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.own_pool_draft import OwnPoolDraft
from g4diag.stack.drive.serving import Serving


class DraftExtend:
    """Build it under the state to test: its graphs are captured then. backend: its attention backend, the target's by
    default."""

    def __init__(self, serving: Serving, backend: str = "") -> None:
        self.serving, self.draft = serving, OwnPoolDraft(serving)
        runner = self.draft.runner
        self.width = int(serving.args.speculative_num_draft_tokens)
        runner.model_config.spec_hidden_size = runner.model_config.hidden_size
        self.backend, self.graphs = self._made(backend or serving.backend_name)

    def _made(self, backend: str) -> tuple[Any, Any]:
        """The first backend, and the graph runner."""
        runner = self.draft.runner
        made = attention_backend(backend, runner)
        worker = SimpleNamespace(
            draft_runner=runner,
            target_worker=SimpleNamespace(model_runner=runner),
            draft_extend_attn_backend=made,
            speculative_algorithm=runner.spec_algorithm,
            seed_dsa_topk_from_draft_extend=False,
            hot_token_id=None,
        )
        return made, driver().extend_runner(worker)

    def batch(self) -> Any:
        """The ForwardBatch of the running requests' last `width` tokens each."""
        batch = copy.copy(self.serving.running)
        lens_B, slots_RT = batch.seq_lens - self.width, self.serving.request_pool.req_to_token
        spans = zip(batch.req_pool_indices.tolist(), lens_B.tolist(), strict=True)
        batch.out_cache_loc = torch.cat([slots_RT[row, end : end + self.width] for row, end in spans]).long()
        batch.seq_lens, batch.seq_lens_cpu = lens_B, batch.seq_lens_cpu - self.width
        rows, hidden = (
            len(batch.reqs),
            torch.zeros(len(batch.reqs) * self.width, self.draft.runner.model_config.hidden_size),
        )
        accepted_B = torch.full((rows,), self.width, dtype=torch.int32)
        return driver().extend_batch(batch, self.draft.runner, self.graphs, hidden, accepted_B)

    def graph(self) -> Any:
        """A replay over the running batch; what its layers write goes to the draft's pool."""
        return self.replay(self.batch())

    def replay(self, batch: Any) -> Any:
        """... over a batch that `batch` made."""
        return driver().replay_extend(self.graphs, batch)
