"""On Blackwell, `--moe-runner-backend auto` takes TRT-LLM's MoE kernel for NVFP4 Gemma-4 only. Upstream since #26026.

Symptom: an unquantised 26B-A4B on SM100 is started with flashinfer_trtllm as its MoE runner without anybody having
asked for it (#26026 lists it among what broke MTP; we have no Blackwell to see how it ends).
Cause: #25054 (2026-05-20), which brought NVFP4, made that runner the default for every Gemma-4 on SM100. #26026
(merged 2026-05-23) narrows it to modelopt_fp4; everything else stays on `auto`, which is Triton for bf16.
No PyPI release has the fault: 0.5.12.post1 is from before, 0.5.13 from after. Source builds of those days have.
What is known of #26026 is its title and the parts of its diff that could be read; the rest is read from 0.5.13.
"""

from __future__ import annotations

from g4diag.hooks.anchors import Anchor
from g4diag.patches.contract import Form, Patch, nothing_to_apply

_ADJUST = "sglang.srt.server_args.ServerArgs._handle_model_specific_adjustments"
_SAID = '"SM100 for Gemma-4 (modelopt_fp4)"'
# Where the condition stands, and how it reads, by release.
_CONDITIONS = {
    ">=0.5.19": (
        "sglang.srt.arg_groups.model_overrides.gemma4",
        'if model_config_of(server_args).quantization == "modelopt_fp4":',
    ),
    ">=0.5.15,<0.5.19": (
        "sglang.srt.arg_groups.overrides._gemma4_overrides",
        'server_args.get_model_config().quantization == "modelopt_fp4"',
    ),
    ">=0.5.14,<0.5.15": (_ADJUST, 'if self.get_model_config().quantization == "modelopt_fp4":'),
    ">=0.5.13,<0.5.14": (_ADJUST, "if is_gemma4_modelopt_fp4:"),
}

PATCH = Patch(
    name="sm100-moe-select",
    kind="cure",
    why="An unquantised MoE Gemma-4 on SM100 is given a MoE kernel that is meant for NVFP4 checkpoints.",
    how="Nothing to apply: verified by the anchors of upstream's condition.",
    upstream="sgl-project/sglang#26026 (2026-05-23); introduced by #25054",
    releases=">0.5.12.post1,<0.5.13",
    forms=tuple(
        Form(releases, (Anchor(target, condition), Anchor(target, _SAID)), nothing_to_apply)
        for releases, (target, condition) in _CONDITIONS.items()
    ),
    remove_when="No source build of 2026-05-20 .. 2026-05-23 and no fork of one is in use.",
)
