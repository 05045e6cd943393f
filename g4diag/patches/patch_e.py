"""Patch E, whole: SWA state follows the pool in both views and while the graph runner is built.

Symptom and cause as in `faulty_rule`. Where the wrong rule is, the draft's backend was built knowing of no SWA
pool; this gives it the target's for as long as it reads the target's. The two views are not enough: the CUDA graph
runner sizes its buffers, and captures, inside its constructor (see `patch_e_views`), so the swap is there as well.
By reading, the fork's form for graphs (a buffer whenever the model has a window) dereferences None for a
windowed runner with a plain pool; sizing from the pool that will be read does not.
Two-sided by construction: only the frozen-KV views and runner are touched, so a draft with its own pool never is.
From 0.5.13 on #27491 does the same in the resolver: status `upstream`. It stays applicable by name, on `faulty-rule`.
The graph runner of 0.5.14 and later captures in its constructor as well, by another method; from 0.5.16 on the state
has a second half, the raw mapping that the graph's metadata kernel reads, and both halves follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.backend_rule import CALLED_ONCE, TWO_SIDED
from g4diag.patches.contract import Patch
from g4diag.patches.swa_state import VIEW_ANCHORS, following, view_forms, view_hooks

_RUNNER_INIT = "sglang.srt.speculative.frozen_kv_mtp_cuda_graph_runner.FrozenKVMTPCudaGraphRunner.__init__"


def built_for_target(
    original: Callable[..., None], runner: Any, frozen_kv_mtp_worker: Any, *args: Any, **kwargs: Any
) -> None:
    """The runner's constructor with the SWA state of the pool its graphs will read."""
    worker = frozen_kv_mtp_worker
    with following(worker.draft_attn_backend, worker.kv_context):
        original(runner, worker, *args, **kwargs)


def hooks() -> tuple[Hook, ...]:
    """Both views and the graph runner's constructor."""
    return (*view_hooks(), Hook(_RUNNER_INIT, "around", built_for_target))


PATCH = Patch(
    name="patch-e",
    kind="cure",
    why="Sliding layers of a frozen-KV draft are handed full-space page ids: wrong K/V, then illegal access.",
    how="As patch-e-views, and around FrozenKVMTPCudaGraphRunner.__init__, so that graph buffers get SWA tables too.",
    upstream="the fork pyc96/sglang, 2026-05-23; superseded by sgl-project/sglang#27491 (2026-06-08)",
    releases=">0.5.12.post1,<0.5.13rc0",
    anchors=(*VIEW_ANCHORS, CALLED_ONCE, Anchor(_RUNNER_INIT, "self.draft_attn_backend.init_cuda_graph_state(")),
    upstream_when=TWO_SIDED,
    forms=view_forms(hooks),
    remove_when="No source build of 2026-05-15 .. 2026-06-02 and no fork of one is in use.",
)
