"""Cures that upstream has: rows of the series that are verified, never applied, and right in the installed sglang."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.errors import PatchRefused
from g4diag.hooks.anchors import Anchor, has_module
from g4diag.hooks.manifest import armed_manifest
from g4diag.hooks.targets import imported
from g4diag.hooks.versions import version_of
from g4diag.patches.applying import applied, patches, selected_patches, status
from g4diag.patches.contract import fit, form_for, unmatched
from g4diag.settings import Selection
from g4diag.stack.drive import cpu
from g4diag.stack.pairs import tiny_gemma
from tests.patches.releases import started_process
from tests.patches.router import reference, tolerances

RECORDED = ("assistant-without-experts", "assistant-without-pp-group", "fused-router", "sm100-moe-select")


def test_these_and_no_others() -> None:
    assert tuple(name for name, patch in patches().items() if patch.recorded) == RECORDED


@pytest.mark.parametrize("name", RECORDED)
def test_upstream_here_and_refused_by_name_in_one_line(name: str) -> None:
    found = status(patches()[name])
    assert found.state == "upstream" and not found.can_apply
    assert name not in selected_patches(Selection(everything=True))
    with pytest.raises(PatchRefused, match=f"{name}: wanted sglang .*, found .*: nothing to apply") as refused:
        applied([name]).__enter__()
    assert "\n" not in str(refused.value) and not any(armed_manifest().values())


@pytest.mark.parametrize("name", RECORDED)
def test_where_an_anchor_is_gone_it_says_which(name: str) -> None:
    patch = patches()[name]
    form = form_for(patch)
    assert form is not None, unmatched(patch)
    for anchor in form.anchors:
        anchors = tuple(Anchor(a.target, "no such text") if a is anchor else a for a in form.anchors)
        found = fit(replace(patch, anchors=(), forms=(replace(form, anchors=anchors),)))
        assert found.state == "not-applicable" and not found.can_apply
        assert "no such text" in found.wanted and "0 times" in found.found


@pytest.fixture
def assistant() -> Any:
    started_process()
    return tiny_gemma.assistant_model(window=8, seed=0)[1]


def test_the_assistant_needs_the_group_that_upstream_gives_it(assistant: Any) -> None:
    assistant.tie_weights(recompute_mapping=False)
    del assistant.pp_group
    with pytest.raises(AttributeError, match="pp_group"):
        assistant.tie_weights(recompute_mapping=False)


def test_a_dense_assistant_loads_and_needs_upstreams_default_to(assistant: Any) -> None:
    from sglang.srt.layers.moe.fused_moe_triton.layer import FusedMoE

    shape = assistant.model.norm.weight.shape
    assert assistant.config.num_experts is None
    assert assistant.load_weights([("model.norm.weight", torch.full(shape, 7.0))]) == {"model.norm.weight"}
    with pytest.raises(TypeError):
        FusedMoE.make_expert_params_mapping("gate_proj", "down_proj", "up_proj", assistant.config.num_experts)


@pytest.fixture
def moe_runner_on_blackwell(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], str]:
    """(quantization of a checkpoint) -> the MoE runner that a server on SM100 is given for it."""
    hf_config = SimpleNamespace(architectures=["Gemma4ForCausalLM"])
    if has_module("sglang.srt.arg_groups.model_overrides.gemma4"):
        from sglang.srt.arg_groups.model_overrides import gemma4

        def declared(quantization: str | None) -> str:
            monkeypatch.setattr(gemma4, "get_platform", lambda: SimpleNamespace(is_sm100=True))
            monkeypatch.setattr(gemma4, "model_config_of", lambda args: SimpleNamespace(quantization=quantization))
            split = {"prefill_attention_backend": None, "decode_attention_backend": None}
            args = SimpleNamespace(moe_runner_backend="auto", attention_backend="triton", **split)
            return gemma4._gemma4_overrides(args, hf_config).get("moe_runner_backend", "auto")

        return declared
    from sglang.srt import server_args

    if not hasattr(server_args, "is_sm100_supported"):
        pytest.skip(f"sglang {version_of('sglang')}: read, not run")

    def adjusted(quantization: str | None) -> str:
        monkeypatch.setattr(server_args, "is_sm100_supported", lambda *_: True)
        args = cpu.server_args(model_path="x", attention_backend="triton")
        args.enforce_disable_flashinfer_allreduce_fusion = False
        text = SimpleNamespace(enable_moe_block=True)
        args.model_config = SimpleNamespace(quantization=quantization, hf_config=hf_config, hf_text_config=text)
        args._handle_model_specific_adjustments()
        return args.moe_runner_backend

    return adjusted


@pytest.mark.parametrize(
    ("quantization", "runner"), [(None, "auto"), ("fp8", "auto"), ("modelopt_fp4", "flashinfer_trtllm")]
)
def test_only_nvfp4_gets_the_nvfp4_runner_on_blackwell(
    moe_runner_on_blackwell: Callable[[str | None], str], quantization: str | None, runner: str
) -> None:
    assert moe_runner_on_blackwell(quantization) == runner


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_upstreams_router_kernel_equals_torch_when_interpreted(dtype: torch.dtype) -> None:
    """The kernel's arithmetic; that it compiles, and how fast it is, is for tests/gpu."""
    form = form_for(patches()["fused-router"])
    assert form is not None
    gemma4_fused_routing = imported(form.anchors[-1].target)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 128, generator=generator).to(dtype)
    scale = torch.rand(128, generator=generator) + 0.5
    weights, ids = gemma4_fused_routing(logits, scale, 8)
    wanted_weights, wanted_ids = reference(logits, scale, 8)
    assert weights.dtype == torch.float32 and ids.dtype == torch.int32
    torch.testing.assert_close(weights.sort().values, wanted_weights.sort().values, **tolerances())
    assert torch.equal(logits.float().gather(1, ids.long()), logits.float().gather(1, wanted_ids.long()))
