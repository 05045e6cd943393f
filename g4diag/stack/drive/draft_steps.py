"""The drafting steps of an EAGLE draft, in its graphs: each but the last writes K/V of its own, and all read one batch.

A follower's last tokens stand for those that are drafted. Worker, backends, batch, graph runner, buffers and padding
are sglang's own; a "graph" is a closure over the static buffers.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import torch

from g4diag.stack.drive.attention_backends import steps_backend
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.own_pool_draft import OwnPoolDraft
from g4diag.stack.drive.serving import Serving


class DraftSteps:
    """Build it under the state to test: its graphs are captured then. Its layers are full, as those of EAGLE3 drafts.
    topk: branches of a step, each in pages of its own. architecture: of the draft's model, by which some are treated in
    their own way. copied: each step's forward copies its inputs first, as on a GPU."""

    def __init__(self, serving: Serving, topk: int = 1, architecture: str = "", copied: bool = False) -> None:
        from sglang.srt.speculative.eagle_worker_v2 import EagleDraftWorker

        driver().change_args(serving.args, speculative_eagle_topk=topk)
        self.serving, self.draft, self.topk = serving, OwnPoolDraft(serving, windowed=False), topk
        runner, self.steps = self.draft.runner, int(serving.args.speculative_num_steps)
        self.backend = steps_backend(serving.backend_name, runner, topk, self.steps)
        runner.draft_attn_backend = self.backend
        if copied:
            driver().copy_eager_inputs(runner)
        runner.model_config.spec_hidden_size = runner.model_config.hidden_size
        runner.model_config.hf_config.architectures = [architecture]
        self.worker = object.__new__(EagleDraftWorker)
        self.worker.__dict__.update(
            server_args=serving.args,
            draft_runner=runner,
            target_worker=SimpleNamespace(model_runner=runner),
            draft_attn_backend=self.backend,
            topk=topk,
            device="cpu",
            speculative_num_steps=self.steps,
            speculative_num_draft_tokens=int(serving.args.speculative_num_draft_tokens),
            speculative_algorithm=runner.spec_algorithm,
            seed_dsa_topk_from_draft_extend=False,
            index_share_for_mtp_iteration=False,
            hot_token_id=None,
            req_to_token_pool=serving.request_pool,
        )
        self.worker._rebuild_topk1_chain_buffers()
        self.graphs = driver().steps_runner(self.worker)

    def batch(self) -> Any:
        """The ForwardBatch that drafts for the running requests over their last tokens: as many as the steps have, of
        branches whole pages, so that none begins inside of one."""
        batch, page = copy.copy(self.serving.running), self.serving.geometry.page_size
        branch = self.steps if self.topk == 1 else -(-self.steps // page) * page
        unit = 1 if self.topk == 1 else page
        batch.seq_lens = (batch.seq_lens - self.topk * branch) // unit * unit
        batch.seq_lens_cpu = batch.seq_lens.clone()
        batch.seq_lens_sum = int(batch.seq_lens_cpu.sum())
        rows, width = len(batch.reqs), self.draft.runner.model_config.hidden_size
        return driver().steps_batch(
            batch,
            self.worker,
            self.graphs,
            topk_p=torch.ones(rows, self.topk),
            topk_index=torch.ones(rows, self.topk, dtype=torch.int64),
            hidden_states=torch.zeros(rows, width),
        )

    def replay(self, batch: Any) -> Any:
        """Its replay; what its layers write goes to the draft's pool."""
        return driver().replay(self.graphs, batch)
