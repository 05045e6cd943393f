"""MoE Gemma-4 alone gets 0.15, through the real ServerArgs, and never against what the user said."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.errors import PatchRefused
from g4diag.hooks.versions import version_of
from g4diag.patches import swa_ratio_moe
from g4diag.patches.applying import applied
from g4diag.patches.contract import form_for, unmatched
from tests.patches import tiny_configs
from tests.patches.tiny_configs import DENSE, MOE, command_line

DEFAULT = 0.8


@pytest.fixture(scope="module")
def moe(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_configs.write(tmp_path_factory.mktemp("tiny") / "moe", **MOE)


@pytest.fixture
def patch() -> Iterator[None]:
    with applied(["swa-ratio-moe"]):
        yield


def resolved(args: Any) -> float:
    """The ratio that a server with these arguments works with, once they are resolved."""
    if hasattr(args, "resolve_once"):
        args.resolve_once()
    declared = getattr(args, "_resolved_overrides", None) or ()
    found = [fields["swa_full_tokens_ratio"] for _, fields in declared if "swa_full_tokens_ratio" in fields]
    value = found[-1] if found else args.swa_full_tokens_ratio
    return DEFAULT if value is None else value


def ratio(argv: list[str]) -> float:
    """What a server started with `argv` works with."""
    from sglang.srt.server_args import prepare_server_args

    return resolved(prepare_server_args(argv))


def as_engine(path: str, **more: Any) -> float:
    """What an Engine with these keywords works with: it hands them to ServerArgs."""
    from sglang.srt.server_args import ServerArgs

    fixed = {"device": "cpu", "attention_backend": "triton", "load_format": "dummy", "skip_tokenizer_init": True}
    return resolved(ServerArgs(model_path=path, **fixed, **more))


def form() -> str:
    """`adjusting` or `declaring`: how this release's models have their say."""
    found = form_for(swa_ratio_moe.PATCH)
    assert found is not None, unmatched(swa_ratio_moe.PATCH)
    return "declaring" if any("overrides" in anchor.target for anchor in found.anchors) else "adjusting"


def skip_unless(wanted: str) -> None:
    if form() != wanted:
        pytest.skip(f"sglang {version_of('sglang')}: its models have their say by {form()}")


def test_moe_gets_it_and_only_while_the_patch_is_on(moe: str) -> None:
    assert ratio(command_line(moe)) == as_engine(moe) == 0.8
    with applied(["swa-ratio-moe"]):
        assert ratio(command_line(moe)) == as_engine(moe) == 0.15
    assert ratio(command_line(moe)) == 0.8


def test_dense_keeps_the_default(patch: None, tmp_path: Path) -> None:
    assert ratio(command_line(tiny_configs.write(tmp_path / "dense", **DENSE))) == 0.8


@pytest.mark.parametrize(
    "words",
    [
        ["--swa-full-tokens-ratio", "0.8"],
        ["--swa-full-tokens-ratio=0.8"],
        ["--swa-full", "0.8"],
        ["--swa-full-tokens-ratio", "0.5"],
    ],
)
def test_the_users_flag_wins(patch: None, moe: str, words: list[str]) -> None:
    assert ratio(command_line(moe, *words)) == float(words[-1].rpartition("=")[2])


def test_a_config_file_is_the_users_word_too(patch: None, moe: str, tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("swa-full-tokens-ratio: 0.8\n")
    assert ratio([*command_line(moe), "--config", str(file)]) == 0.8
    file.write_text("max-running-requests: 4\nlog-requests: false\n")
    assert ratio([*command_line(moe), "--config", str(file)]) == 0.15


def test_a_keyword_of_an_engine_wins(patch: None, moe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert as_engine(moe, swa_full_tokens_ratio=0.8) == 0.8
    # The command line of somebody's own script says nothing of an Engine it makes.
    monkeypatch.setattr(sys, "argv", ["script", "--swa-full-tokens-ratio", "0.8"])
    assert as_engine(moe) == 0.15


def test_a_tool_that_parses_its_own_command_line(patch: None, moe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import argparse

    from sglang.srt.server_args import ServerArgs

    for more, wanted in (((), 0.15), (("--swa-full-tokens-ratio", "0.8"), 0.8)):
        monkeypatch.setattr(sys, "argv", ["bench", *command_line(moe, *more)])
        parser = argparse.ArgumentParser()
        ServerArgs.add_cli_args(parser)
        assert resolved(ServerArgs.from_cli_args(parser.parse_args())) == wanted


def test_what_serve_passes_on_wins(patch: None, moe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("G4DIAG_EXPLICIT_FLAGS", "model-path,swa-full-tokens-ratio")
    assert ratio(command_line(moe)) == 0.8
    monkeypatch.setenv("G4DIAG_EXPLICIT_FLAGS", "model-path")
    assert ratio(command_line(moe)) == 0.15


MODELS = [
    ("Gemma4ForCausalLM", {"enable_moe_block": True}, 0.15),
    ("Gemma4UnifiedForConditionalGeneration", {"num_experts": 128}, 0.15),
    ("Gemma4ForCausalLM", {"enable_moe_block": None, "num_experts": None}, 0.8),
    ("Gemma4ForCausalLM", {"enable_moe_block": False, "num_experts": 128}, 0.8),
    ("Gemma4ForCausalLM", {}, 0.8),
    ("Gemma3ForCausalLM", {"enable_moe_block": True}, 0.8),
    (None, {"enable_moe_block": True}, 0.8),
]


@pytest.mark.parametrize(("architecture", "text", "wanted"), MODELS)
def test_which_models_are_adjusted(architecture: str | None, text: dict[str, Any], wanted: float) -> None:
    class ServerArgs:
        swa_full_tokens_ratio = 0.8

    args: Any = ServerArgs()
    hf_config = SimpleNamespace(architectures=[architecture] if architecture else None)
    args.model_config = SimpleNamespace(hf_config=hf_config, hf_text_config=SimpleNamespace(**text))
    swa_ratio_moe.adjusted(None, args)
    assert args.swa_full_tokens_ratio == wanted


@pytest.mark.parametrize("nested", [True, False], ids=["multimodal config", "text config"])
@pytest.mark.parametrize("sentinel", [True, False])
@pytest.mark.parametrize(("architecture", "text", "wanted"), MODELS)
def test_which_models_have_it_declared(
    architecture: str | None, text: dict[str, Any], wanted: float, sentinel: bool, nested: bool
) -> None:
    inner = {"text_config": SimpleNamespace(**text)} if nested else text
    config = SimpleNamespace(architectures=[architecture] if architecture else None, **inner)
    args = SimpleNamespace(swa_full_tokens_ratio=None if sentinel else 0.8)
    before = [("theirs", {"attention_backend": "triton"})]
    found = swa_ratio_moe.declared(before, "A", args, config, sentinel=sentinel)
    assert found == ([*before, ("g4diag swa-ratio-moe", {"swa_full_tokens_ratio": 0.15})] if wanted == 0.15 else None)
    args = SimpleNamespace(swa_full_tokens_ratio=0.8, _g4diag_ratio_given=True)
    assert swa_ratio_moe.declared(before, "A", args, config, sentinel=sentinel) is None, "0.8, and said so"


def test_a_model_held_elsewhere_is_not_asked_for() -> None:
    skip_unless("adjusting")
    from sglang.srt.server_args import ServerArgs

    args = object.__new__(ServerArgs)
    args.model_path, args.swa_full_tokens_ratio = "instance://elsewhere", 0.8
    with applied(["swa-ratio-moe"]):
        args._handle_model_specific_adjustments()
    assert args.swa_full_tokens_ratio == 0.8 and not hasattr(args, "model_config")


def test_a_hook_without_effect_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = {"adjusting": "adjusted", "declaring": "declared"}[form()]
    monkeypatch.setattr(swa_ratio_moe, name, lambda *args, **kwargs: None)
    with pytest.raises(PatchRefused, match=r"wanted a ratio of 0.15 .*, found (0.8|\[\])"), applied(["swa-ratio-moe"]):
        raise AssertionError("entered")
