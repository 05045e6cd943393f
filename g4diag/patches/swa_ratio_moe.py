"""MoE Gemma-4 gets a ratio of SWA to full KV tokens that fits it; dense Gemma-4 keeps the default.

Symptom: with the default ratio of 0.8 a 26B-A4B server spends most of its KV memory on sliding layers. A token costs
ten times as much there (25 layers of 8 K/V heads of 256, against 5 layers of 2 heads of 512), and no request ever
needs more of it than its window. The fork measured 593 956 full tokens at 0.8 and 2 138 243 at 0.15 on a B200.
Only for MoE: on the dense 31B the fork's 0.15 left 71 808 SWA tokens, and the server starved.
Upstream: none, to 0.5.23. Until 0.5.19 the field's default is 0.8; since 0.5.20 it is None and falls back to 0.8, so
that an explicit 0.8 can be told. Since 0.5.21 a server without a radix cache and with an explicit
--max-running-requests sizes its SWA pool by what those requests need, and asks no ratio.
How it gets there: until 0.5.14 models adjust ServerArgs in place. Since 0.5.15 they declare overrides, which a registry
collects; ours is one more of them, after upstream's own for Gemma-4, so whoever reads the resolved value reads it.

Where the fork was wrong: it took the value 0.8 for "not given", so `--swa-full-tokens-ratio 0.8` was overruled. Here
the user's own word wins whatever it says (`swa_ratio_given`). Limit: whoever builds a ServerArgs from a complete set of
fields (`dataclasses.replace`, a namespace unpacked by hand) has given all of them, and keeps what it has.
"""

from __future__ import annotations

import logging
from functools import partial
from types import SimpleNamespace
from typing import Any

from g4diag.errors import PatchRefused
from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Form, Patch
from g4diag.patches.swa_ratio_given import FIELD, FLAG, MODULE, given, named_by_serve, noting

logger = logging.getLogger(__name__)

_RATIO = 0.15
_ARCHITECTURES = ("Gemma4ForConditionalGeneration", "Gemma4ForCausalLM", "Gemma4UnifiedForConditionalGeneration")
_ADJUST = f"{MODULE}.ServerArgs._handle_model_specific_adjustments"
_COLLECT = "sglang.srt.arg_groups.overrides.collect_model_override_declarations"
_SAID = f"g4diag: {FIELD} = {_RATIO} for MoE Gemma-4; {FLAG} overrides it"

Declarations = list[tuple[str, dict[str, Any]]]


def adjusted(result: None, server_args: Any) -> None:
    """AFTER the model-specific adjustments: 0.15 for MoE Gemma-4 whose ratio is the default one and was not given."""
    # An attribute, not get_model_config(): for a model held by another instance upstream loads none, nor do we.
    config = getattr(server_args, "model_config", None)
    if config is None or not _is_moe_gemma4(config.hf_config, config.hf_text_config) or given(server_args):
        return
    if getattr(server_args, FIELD) == getattr(type(server_args), FIELD):
        setattr(server_args, FIELD, _RATIO)
        logger.info(_SAID)


def declared(
    result: Declarations, architecture: str, server_args: Any, hf_config: Any, *, sentinel: bool
) -> Declarations | None:
    """AFTER a model's overrides are collected: one more, in the same circumstances. sentinel: not given is None."""
    if not _is_moe_gemma4(hf_config, getattr(hf_config, "text_config", None) or hf_config):
        return None
    if (getattr(server_args, FIELD) is not None or named_by_serve()) if sentinel else given(server_args):
        return None
    logger.info(_SAID)
    return [*result, (f"g4diag {PATCH.name}", {FIELD: _RATIO})]


def verify_adjustment() -> None:
    """The real method on MoE Gemma-4 must leave 0.15. A model held by another instance takes its shortest way, which
    asks nothing of any device."""
    from sglang.srt.server_args import ServerArgs

    probe = object.__new__(ServerArgs)
    setattr(probe, FIELD, getattr(ServerArgs, FIELD))
    probe.model_path = "instance://g4diag"
    text = SimpleNamespace(enable_moe_block=True)
    probe.model_config = SimpleNamespace(
        hf_config=SimpleNamespace(architectures=list(_ARCHITECTURES)), hf_text_config=text
    )
    probe._handle_model_specific_adjustments()
    _require(getattr(probe, FIELD))


def verify_declaration() -> None:
    """The real collection for MoE Gemma-4 must hold 0.15. The probe has chosen all that upstream's own would ask a
    device about."""
    from sglang.srt.arg_groups import overrides

    chosen = {"attention_backend": "triton", "moe_runner_backend": "triton", FIELD: None}
    probe = SimpleNamespace(
        prefill_attention_backend=None, decode_attention_backend=None, is_attention_backend_not_set=lambda: False
    )
    vars(probe).update(chosen)
    config = SimpleNamespace(architectures=list(_ARCHITECTURES), enable_moe_block=True)
    collected = overrides.collect_model_override_declarations(_ARCHITECTURES[1], probe, config)
    _require([fields[FIELD] for _, fields in collected if FIELD in fields])


def _require(found: Any) -> None:
    if found not in (_RATIO, [_RATIO]):
        raise PatchRefused(PATCH.name, f"a ratio of {_RATIO} for MoE Gemma-4", repr(found))


def _is_moe_gemma4(hf_config: Any, text: Any) -> bool:
    architectures = list(getattr(hf_config, "architectures", None) or ())
    if not architectures or architectures[0] not in _ARCHITECTURES:
        return False
    # Where the config has the switch sglang builds by it, whatever num_experts says.
    switch = getattr(text, "enable_moe_block", None)
    return bool(switch) if switch is not None else (getattr(text, "num_experts", None) or 0) > 0


def _adjusting(releases: str, field: str) -> Form:
    return Form(
        releases=releases,
        anchors=(
            Anchor(f"{MODULE}.ServerArgs", field),
            Anchor(f"{MODULE}.ServerArgs.__post_init__", "self._handle_model_specific_adjustments()"),
            Anchor(f"{MODULE}.ServerArgs.get_model_config", "self.model_config = ModelConfig.from_server_args(self)"),
        ),
        # By name when called, so that a test can put another function there.
        hooks=lambda: (Hook(_ADJUST, "after", adjusted), *noting()),
        verify=verify_adjustment,
    )


def _declaring(releases: str, field: Anchor, sentinel: bool) -> Form:
    return Form(
        releases=releases,
        anchors=(field, Anchor(_COLLECT, "for predicate, fn in "), Anchor(_COLLECT, "return declarations")),
        hooks=lambda: (
            Hook(_COLLECT, "after", partial(declared, sentinel=sentinel)),
            *(() if sentinel else noting()),
        ),
        verify=verify_declaration,
    )


PATCH = Patch(
    name="swa-ratio-moe",
    kind="cure",
    why="A MoE Gemma-4 server spends most of its KV memory on sliding layers and runs out of full-attention tokens.",
    how="After the model's own adjustment of ServerArgs: swa_full_tokens_ratio 0.15, unless the user gave one.",
    upstream="none; the fork pyc96/sglang",
    releases=">=0.5.12",
    anchors=(
        Anchor(f"{MODULE}.ServerArgs.from_cli_args", "return cls(**{attr: getattr(args, attr) for attr in attrs})"),
    ),
    forms=(
        _declaring(">=0.5.20", Anchor("sglang.srt.arg_groups.fields.schedule", f"{FIELD}: A["), sentinel=True),
        _declaring(">=0.5.15,<0.5.20", Anchor(f"{MODULE}.ServerArgs", f"{FIELD}: A["), sentinel=False),
        _adjusting(">=0.5.14,<0.5.15", f"{FIELD}: A["),
        _adjusting(">=0.5.12,<0.5.14", f"{FIELD}: float = 0.8"),
    ),
    remove_when="Upstream chooses the ratio by what a token costs in each pool, or by model.",
)
