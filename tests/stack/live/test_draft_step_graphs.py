"""EAGLE's drafting steps in a graph, as the device check sees them. sglang's own worker, backends and graph runner,
whose graphs are closures, and our kernels, interpreted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.stack.drive.draft_steps import DraftSteps
from g4diag.stack.drive.serving import Serving
from g4diag.stack.live.device_check import IN_GRAPHS, ON_DEVICE
from g4diag.stack.live.sink import Live
from tests.injected import server as small
from tests.stack.live.test_device_graphs import armed, said


def drafting(backend: str = "trtllm_mha", topk: int = 1, requests: int = 2, live: int = 2, **more: Any) -> DraftSteps:
    """Over a target with requests of different lengths."""
    sizes = replace(small.SIZES, live=live, full_tokens=2 * small.SIZES.full_tokens)
    draft = DraftSteps(Serving(sizes, seed=0, algorithm="EAGLE", backend=backend), topk, **more)
    for i in range(requests):
        small.admit(draft.serving, f"r{i}", small.PROMPT - (2 + i) * small.PAGE)
    if requests:
        draft.serving.decode()
    return draft


def replayed(live: Live, draft: DraftSteps) -> Any:
    """One draft, as a step; its batch."""
    batch = draft.batch()
    slots = batch.out_cache_loc.tolist()
    live.begin_step()
    draft.replay(batch)
    live.end_step(draft.serving.rid_of)
    return slots


@pytest.mark.parametrize("topk", [1, 2])
def test_tritons_flat_slots_are_judged_beyond_where_the_batch_of_the_capture_ended(
    topk: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with armed(tmp_path, IN_GRAPHS | ON_DEVICE) as live:
        draft = drafting("triton", topk)
        step = draft.backend.attn_backends[0]
        replayed(live, draft)
        assert not said(caplog), "healthy so far"
        last = int(step.kv_indptr[2 * topk]) - 1
        assert last > 2 * topk * draft.steps, "more than while it was captured"
        honest = draft.backend.init_forward_metadata_out_graph

        def planned(batch: Any, *args: Any, **kwargs: Any) -> None:
            honest(batch, *args, **kwargs)
            step.cuda_graph_kv_indices[last] = 1 << 20

        draft.backend.init_forward_metadata_out_graph = planned
        replayed(live, draft)
    assert said(caplog) == ["page_table_stays_in_pool"]
