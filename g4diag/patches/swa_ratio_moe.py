"""MoE Gemma-4 gets a ratio of SWA to full KV tokens that fits it; dense Gemma-4 keeps the default.

Symptom: with the default ratio of 0.8 a 26B-A4B server spends most of its KV memory on sliding layers. A token costs
ten times as much there (25 layers of 8 K/V heads of 256, against 5 layers of 2 heads of 512), and no request ever
needs more of it than its window. The fork pyc96/sglang measured 593 956 full tokens at 0.8 and 2 138 243 at 0.15 on a
B200.
Only for MoE: on the dense 31B the fork's 0.15 left 71 808 SWA tokens, and the server starved.
Upstream: none. 0.5.12.post1 and 0.5.13 default to 0.8; 0.5.23 has a None that falls back to 0.8.

Where the fork was wrong: it took the value 0.8 for "not given", so `--swa-full-tokens-ratio 0.8` was overruled. Here
the user's own word wins whatever it says: on the command line (either spelling, an abbreviation that argparse takes,
or the file of `--config`), as a keyword of Engine or ServerArgs, or in G4DIAG_EXPLICIT_FLAGS. Limit: whoever builds
a ServerArgs from a complete set of fields (`dataclasses.replace`, a namespace unpacked by hand) has given all of
them, and keeps what it has.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

from g4diag.errors import PatchRefused
from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Patch
from g4diag.settings import Settings

logger = logging.getLogger(__name__)

_RATIO = 0.15
_FIELD, _FLAG = "swa_full_tokens_ratio", "--swa-full-tokens-ratio"
_ARCHITECTURES = ("Gemma4ForConditionalGeneration", "Gemma4ForCausalLM", "Gemma4UnifiedForConditionalGeneration")
_MODULE = "sglang.srt.server_args"
_ADJUST = f"{_MODULE}.ServerArgs._handle_model_specific_adjustments"

# The command line that a ServerArgs is being made from, None when it is made from keywords; and what came of it.
_argv: ContextVar[Sequence[str] | None] = ContextVar("argv", default=None)
_given: ContextVar[bool] = ContextVar("given", default=False)


def adjusted(result: None, server_args: Any) -> None:
    """AFTER the model-specific adjustments: 0.15 for MoE Gemma-4 whose ratio is the default one and was not given."""
    # An attribute, not get_model_config(): for a model held by another instance upstream loads none, nor do we.
    config = getattr(server_args, "model_config", None)
    if config is None or not _is_moe_gemma4(config) or _given.get():
        return
    if getattr(server_args, _FIELD) == getattr(type(server_args), _FIELD):
        setattr(server_args, _FIELD, _RATIO)
        logger.info("g4diag: swa_full_tokens_ratio = %s for MoE Gemma-4; %s overrides it", _RATIO, _FLAG)


def parsed(original: Callable[..., Any], argv: Sequence[str]) -> Any:
    """Around prepare_server_args, which need not be given sys.argv."""
    with _set(_argv, argv):
        return original(argv)


def from_command_line(original: Callable[..., Any], cls: Any, args: Any) -> Any:
    """Around ServerArgs.from_cli_args, which passes every field on and so hides which of them were typed."""
    with _set(_argv, sys.argv[1:] if _argv.get() is None else _argv.get()):
        return original(cls, args)


def constructed(original: Callable[..., None], server_args: Any, *args: Any, **kwargs: Any) -> None:
    """Around ServerArgs.__init__, inside which the adjustments run."""
    argv = _argv.get()
    names = {*kwargs, *(field.name for field in fields(server_args)[: len(args)])}
    given = _FIELD in names if argv is None else _typed(argv)
    with _set(_given, given or _FLAG.lstrip("-") in (Settings.from_env().explicit_flags or ())):
        original(server_args, *args, **kwargs)


def hooks() -> tuple[Hook, ...]:
    """The adjustment, and three that see what the user gave."""
    return (
        Hook(_ADJUST, "after", adjusted),
        Hook(f"{_MODULE}.ServerArgs.__init__", "around", constructed),
        Hook(f"{_MODULE}.ServerArgs.from_cli_args", "around", from_command_line),
        Hook(f"{_MODULE}.prepare_server_args", "around", parsed),
    )


def verify() -> None:
    """The real method on MoE Gemma-4 must leave 0.15. A model held by another instance takes its shortest way, which
    asks nothing of any device."""
    from sglang.srt.server_args import ServerArgs

    probe = object.__new__(ServerArgs)
    setattr(probe, _FIELD, getattr(ServerArgs, _FIELD))
    probe.model_path = "instance://g4diag"
    text = SimpleNamespace(enable_moe_block=True)
    probe.model_config = SimpleNamespace(
        hf_config=SimpleNamespace(architectures=list(_ARCHITECTURES)), hf_text_config=text
    )
    probe._handle_model_specific_adjustments()
    if getattr(probe, _FIELD) != _RATIO:
        raise PatchRefused(PATCH.name, f"a ratio of {_RATIO} for MoE Gemma-4", repr(getattr(probe, _FIELD)))


def _is_moe_gemma4(config: Any) -> bool:
    architectures, text = list(getattr(config.hf_config, "architectures", None) or ()), config.hf_text_config
    if not architectures or architectures[0] not in _ARCHITECTURES:
        return False
    # Where the config has the switch sglang builds by it, whatever num_experts says.
    switch = getattr(text, "enable_moe_block", None)
    return bool(switch) if switch is not None else (getattr(text, "num_experts", None) or 0) > 0


def _typed(argv: Sequence[str]) -> bool:
    if "--config" in argv:
        from sglang.srt.server_args_config_parser import ConfigArgumentMerger

        argv = ConfigArgumentMerger().merge_config_with_args(list(argv))
    names = (word.partition("=")[0] for word in argv if word.startswith("--"))
    # argparse takes any unambiguous beginning; an ambiguous one never gets here.
    return any(len(name) > 2 and _FLAG.startswith(name) for name in names)


@contextmanager
def _set(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


PATCH = Patch(
    name="swa-ratio-moe",
    kind="cure",
    why="A MoE Gemma-4 server spends most of its KV memory on sliding layers and runs out of full-attention tokens.",
    how="After ServerArgs._handle_model_specific_adjustments: swa_full_tokens_ratio 0.15, unless the user gave one.",
    upstream="none; the fork pyc96/sglang",
    releases=">=0.5.12",
    anchors=(
        Anchor(f"{_MODULE}.ServerArgs", f"{_FIELD}: float = 0.8"),
        Anchor(f"{_MODULE}.ServerArgs.__post_init__", "self._handle_model_specific_adjustments()"),
        Anchor(f"{_MODULE}.ServerArgs.from_cli_args", "return cls(**{attr: getattr(args, attr) for attr in attrs})"),
        Anchor(f"{_MODULE}.ServerArgs.get_model_config", "self.model_config = ModelConfig.from_server_args(self)"),
    ),
    hooks=hooks,
    verify=verify,
    remove_when="Upstream chooses the ratio by what a token costs in each pool, or by model.",
)
