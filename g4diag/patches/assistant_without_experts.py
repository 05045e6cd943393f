"""A dense assistant loads through the MoE model's loader. Upstream since #26026, so since 0.5.13: nothing to apply.

Symptom: a server with a Gemma-4 assistant stops while it loads the draft's weights: TypeError, a range over None.
Cause: #25054 (NVFP4) made Gemma4ForCausalLM.load_weights lay out a table of per-expert weights from
config.num_experts. The assistant inherits that method, and its text config has None there.
#26026 (merged 2026-05-23) takes None for no experts and no table. No PyPI release has the fault.
"""

from __future__ import annotations

from g4diag.hooks.anchors import Anchor
from g4diag.patches.contract import Patch, nothing_to_apply

_LOAD = "sglang.srt.models.gemma4_causal.Gemma4ForCausalLM.load_weights"

PATCH = Patch(
    name="assistant-without-experts",
    kind="cure",
    why="Loading a dense Gemma-4 assistant ends in TypeError: its config has no number of experts.",
    how="Nothing to apply: verified by the anchors of upstream's default and of the table that is then left out.",
    upstream="sgl-project/sglang#26026 (2026-05-23); introduced by #25054",
    releases=">0.5.12.post1,<0.5.13",
    anchors=(
        Anchor(_LOAD, 'num_experts = getattr(self.config, "num_experts", None) or 0'),
        Anchor(_LOAD, "if num_experts"),
    ),
    hooks=nothing_to_apply,
    remove_when="No source build of 2026-05-20 .. 2026-05-23 and no fork of one is in use.",
)
