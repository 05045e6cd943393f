"""The assistant knows its pipeline group. Upstream since #26026, so in 0.5.13 and later: nothing to apply.

Symptom: a server with a Gemma-4 assistant stops while it builds the draft model: AttributeError,
'Gemma4AssistantForCausalLM' object has no attribute 'pp_group', from tie_weights.
Cause: #25284 (Gemma-4 under pipeline parallelism) made Gemma4ForCausalLM.tie_weights read self.pp_group. The
assistant inherits that method and skips the constructor which sets the attribute.
#26026 (merged 2026-05-23) sets it in the assistant's own. No PyPI release has the fault.
"""

from __future__ import annotations

from g4diag.hooks.anchors import Anchor
from g4diag.patches.contract import Form, Patch, nothing_to_apply

PATCH = Patch(
    name="assistant-without-pp-group",
    kind="cure",
    why="Building a Gemma-4 assistant ends in AttributeError: no attribute 'pp_group'.",
    how="Nothing to apply: verified by the anchors of the attribute and of the method that reads it.",
    upstream="sgl-project/sglang#26026 (2026-05-23); introduced by #25284",
    releases=">0.5.12.post1,<0.5.13",
    anchors=(
        Anchor("sglang.srt.models.gemma4_causal.Gemma4ForCausalLM.tie_weights", "if self.pp_group.world_size > 1:"),
    ),
    forms=tuple(
        Form(
            releases,
            (Anchor("sglang.srt.models.gemma4_mtp.Gemma4AssistantForCausalLM.__init__", f"self.pp_group = {group}"),),
            nothing_to_apply,
        )
        for releases, group in {
            ">=0.5.21": "get_parallel().pp_group",
            ">=0.5.13,<0.5.21": "get_pp_group()",
        }.items()
    ),
    remove_when="No source build from between #25284 and #26026 (May 2026) and no fork of one is in use.",
)
