"""Gemma-4's MoE router in one launch. Upstream since #26502 (2026-06-02), so in 0.5.13 and later: nothing to apply.

Symptom: the router takes 5.8 % of decode GPU time on the 26B-A4B (the fork pyc96/sglang); a chain of small kernels,
top-k, softmax, gather of the per-expert scale, two casts.
Cure: one Triton program a token sorts the logits, takes the softmax over the selected ones (the same as softmax over
all, renormalised), multiplies by the scale, and writes fp32 weights and int32 ids. The fork measured about 1.1 %
with vLLM's kernel; upstream's own is what 0.5.13 runs.
A release that lacks it (0.5.12, 0.5.12.post1) is served as it is: a kernel of our own beside upstream's would be one
more to keep right. What is kept is the test: upstream's kernel against torch (tests/patches, tests/gpu).
"""

from __future__ import annotations

from g4diag.hooks.anchors import Anchor
from g4diag.patches.contract import Form, Patch, nothing_to_apply

PATCH = Patch(
    name="fused-router",
    kind="cure",
    why="The MoE router is a chain of small kernels that takes 5.8 % of decode GPU time.",
    how="Nothing to apply: verified by the anchors of upstream's one-launch kernel and of the place that calls it.",
    upstream="sgl-project/sglang#26502 (2026-06-02)",
    releases="<0.5.13",
    anchors=(
        Anchor(
            "sglang.srt.models.gemma4_causal.Gemma4MoE.__init__",
            "return gemma4_fused_routing(gating_output, per_expert_scale, topk)",
        ),
    ),
    forms=tuple(
        Form(releases, (Anchor(f"{module}.gemma4_fused_routing", "_gemma4_routing_kernel[(T,)]("),), nothing_to_apply)
        for releases, module in {
            ">=0.5.21": "sglang.kernels.ops.moe.gemma4_routing",
            ">=0.5.16,<0.5.21": "sglang.kernels.ops.layernorm.gemma4_fused_ops",
            ">=0.5.13,<0.5.16": "sglang.srt.layers.gemma4_fused_ops",
        }.items()
    ),
    remove_when="No release before 0.5.13 is in use.",
)
