"""The eager frozen draft is handed no write locations: it writes no K/V.

Symptom: `RuntimeError: The size of tensor a (16) must match the size of tensor b (22)` in the scheduler, or for one
request `output with shape [1] doesn't match the broadcast shape [2]`, from the eager input copy, with
--disable-cuda-graph or a batch above the captured sizes.
Cause: the v1 worker's `draft()` builds the draft's forward batch with whatever `out_cache_loc` the batch last had:
after a verify one entry an *accepted* token, after a prefill that nothing was merged into one entry a prompt token.
`ModelRunner._eager_fb_view` copies it into a slot of one entry a drafted token. Equal lengths (no draft token
accepted) go through, and copy locations that nobody uses; a merge or a finished request sets it to None. So what it
needs is not a large batch: the first accepted token does, or a first prompt served alone.
Under decode graphs the runner captures with None, which is also what `draft()` does itself since 0.5.15. Relatives:
#28264, #28817, #29616. Work-arounds: decode graphs on; SGLANG_EAGER_INPUT_NO_COPY=1.
0.5.14 has no v1 worker any more; the v2 worker hands the eager runner what the last verify left, an entry a *drafted*
token of a verify, with the same copy before it (read, not run).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Form, Patch

_V1 = "sglang.srt.speculative.frozen_kv_mtp_worker.FrozenKVMTPWorker"
_V2 = "sglang.srt.speculative.frozen_kv_mtp_worker_v2.FrozenKVMTPDraftWorker"


def without_write_locations(original: Callable[..., Any], worker: Any, forward_batch: Any) -> Any:
    """The draft loop over a forward batch whose `out_cache_loc` is None; outside it is what it was."""
    before = forward_batch.out_cache_loc
    forward_batch.out_cache_loc = None
    try:
        return original(worker, forward_batch)
    finally:
        forward_batch.out_cache_loc = before


def _form(releases: str, worker: str, copy: Anchor) -> Form:
    return Form(
        releases=releases,
        anchors=(
            Anchor(f"{worker}.draft_forward", "if forward_batch.needs_forward_metadata_init():"),
            Anchor(f"{worker}.draft", "parent_list, top_scores_index, draft_tokens = self.draft_forward("),
            copy,
        ),
        hooks=lambda: (Hook(f"{worker}.draft_forward", "around", without_write_locations),),
    )


PATCH = Patch(
    name="eager-draft-out-cache-loc",
    kind="cure",
    why="An eager frozen draft dies of a size mismatch in the input copy once a draft token is accepted.",
    how="Around the frozen worker's draft_forward: the forward batch has no out_cache_loc inside.",
    upstream="cured in 0.5.15 the same way; relatives sgl-project/sglang#28264, #28817, #29616",
    releases=">=0.5.13,<0.5.15",
    forms=(
        _form(
            ">=0.5.13,<0.5.14",
            _V1,
            Anchor(
                "sglang.srt.model_executor.model_runner.ModelRunner.forward_decode",
                "forward_batch = self._eager_fb_view(forward_batch, pp_proxy_tensors)",
            ),
        ),
        _form(
            ">=0.5.14,<0.5.15",
            _V2,
            Anchor("sglang.srt.model_executor.runner.eager_runner.EagerRunner.load_batch", "registry.fill_from("),
        ),
    ),
    upstream_when=Anchor(f"{_V2}.draft", "forward_batch.out_cache_loc = None"),
    remove_when="The oldest release in use is 0.5.15.",
)
