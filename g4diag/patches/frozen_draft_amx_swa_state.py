"""A frozen-KV draft's IntelAMXAttnBackend takes its SWA state from the pool that it will read.

Symptom: with intel_amx on a CPU, Gemma-4 and frozen-KV MTP the draft's sliding layers are handed full-space slots. The
accept length falls; once a slot is past the end of the SWA pool, a CPU reads memory that is not the pool's, and may end
with a segmentation fault.
Cause: as on fa4, `use_sliding_window_kv_pool` is asked of the runner's own pool in the constructor, and the views that
give the draft the target's pool do not touch it.
Cure: as on fa4, the rule that #27491 gave to trtllm_mha. A frozen-KV draft shares the target's allocator, and that
one's pool says what it will read; any other runner keeps the answer of its own pool (#25103).
"""

from __future__ import annotations

from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Patch

_BACKEND = "sglang.srt.layers.attention.intel_amx_backend.IntelAMXAttnBackend"


def built(result: Any, backend: Any, model_runner: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER the constructor."""
    if model_runner.is_draft_worker and model_runner.spec_algorithm.is_frozen_kv_mtp():
        pool = model_runner.token_to_kv_pool_allocator.get_kvcache()
        backend.use_sliding_window_kv_pool = getattr(pool, "swa_layer_nums", 0) > 0


PATCH = Patch(
    name="frozen-draft-amx-swa-state",
    kind="cure",
    why="On intel_amx sliding layers of a frozen-KV draft are handed full-space slots, past the SWA pool's end too.",
    how="After IntelAMXAttnBackend.__init__ a frozen-KV draft's SWA state is that of its allocator's pool.",
    upstream="none found; alive in 0.5.23 as run with the real backend class and a reference kernel on a CPU",
    releases=">=0.5.23",
    anchors=(
        Anchor(f"{_BACKEND}.__init__", "isinstance(self.token_to_kv_pool, SWAKVPool)"),
        Anchor(_BACKEND, "def _swa_kv_indices("),
    ),
    hooks=lambda: (Hook(f"{_BACKEND}.__init__", "after", built),),
    remove_when="Upstream's constructor asks the pool that a frozen-KV draft reads.",
)
