"""Text-only Gemma-4: the flag as upstream's own, no towers, their weights passed over; multimodal left as it was."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.errors import PatchRefused
from g4diag.patches import mm_disabled
from g4diag.patches.applying import applied
from tests.patches import tiny_configs
from tests.patches.releases import started_process
from tests.patches.tiny_configs import command_line

TOWERS = ("vision_tower", "embed_vision", "audio_tower", "embed_audio")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_configs.write(tmp_path_factory.mktemp("tiny") / "gemma")


def model_config(path: str, **more: Any) -> Any:
    from sglang.srt.configs.model_config import ModelConfig

    return ModelConfig(path, **more)


def initialized(config: Any, multimodal: bool, load_format: str = "auto") -> Any:
    """A model as the loader makes it. Its ModelConfig is a stand-in: a real one is tested for the flag."""
    from sglang.srt.model_loader import loader

    started_process()
    stand_in = SimpleNamespace(
        hf_config=config, is_multimodal=multimodal, model_impl="sglang", quantization=None, is_generation=True
    )
    load_config = SimpleNamespace(load_format=load_format, draft_model_idx=None)
    return loader._initialize_model(stand_in, load_config)


def tower_parameters(model: Any) -> list[str]:
    return [name for name, _ in model.named_parameters() if name.split(".")[0] in TOWERS]


def checkpoint(model: Any) -> list[tuple[str, torch.Tensor]]:
    """One weight of each tower and the embedding, under the names of a published checkpoint."""
    rows = {
        "model.vision_tower.encoder.layers.0.self_attn.q_proj.linear.weight": (16, 16),
        "model.embed_vision.embedding_projection.weight": (32, 16),
        "model.audio_tower.layers.0.norm_out.weight": (16,),
        "model.embed_audio.embedding_projection.weight": (32, 16),
        "model.language_model.norm.weight": tuple(model.language_model.norm.weight.shape),
    }
    return [(name, torch.full(shape, 7.0)) for name, shape in rows.items()]


def test_the_flag_is_what_upstream_makes_of_false(path: str) -> None:
    stock, off = vars(model_config(path)), vars(model_config(path, enable_multimodal=False))
    with applied(["mm-disabled"]):
        patched = vars(model_config(path))
    assert {name: repr(value) for name, value in patched.items()} == {name: repr(value) for name, value in off.items()}
    assert stock["is_multimodal"] and not patched["is_multimodal"]
    assert vars(model_config(path)).keys() == stock.keys() and model_config(path).is_multimodal, "undone"


@pytest.mark.parametrize(
    "more",
    [{"enable_multimodal": True}, {"model_impl": "transformers"}, {"encoder_only": True}, {"language_only": True}],
)
def test_multimodal_that_is_wanted_stays(path: str, more: dict[str, Any]) -> None:
    before = {name: repr(value) for name, value in vars(model_config(path, **more)).items()}
    with applied(["mm-disabled"]):
        after = {name: repr(value) for name, value in vars(model_config(path, **more)).items()}
    assert before == after and before["is_multimodal"] == "True"
    model_config(path)  # the hf_config is cached and shared: leave its halves unset


def test_other_models_stay(tmp_path: Path) -> None:
    unified = tiny_configs.write(tmp_path / "unified", "Gemma4UnifiedForConditionalGeneration")
    with applied(["mm-disabled"]):
        assert model_config(unified).is_multimodal


def test_the_server_gets_its_memory_fraction_and_the_command_line_wins(path: str) -> None:
    from sglang.srt.server_args import prepare_server_args

    def server(*more: str) -> tuple[bool, float]:
        args = prepare_server_args(command_line(path, *more))
        if not hasattr(args, "resolve_once"):
            return args.get_model_config().is_multimodal, args.mem_fraction_static
        from sglang.srt.arg_groups.overrides import model_config_of, resolution_result

        args.resolve_once()
        return model_config_of(args).is_multimodal, resolution_result(args, "mem_fraction_static")

    stock = server()
    with applied(["mm-disabled"]):
        assert server("--enable-multimodal") == stock
        multimodal, fraction = server()
    assert stock[0] and not multimodal and fraction > stock[1]


def test_without_multimodal_no_tower_is_built_and_the_text_model_is_the_same() -> None:
    config = tiny_configs.gemma4_config()
    stock = initialized(config, multimodal=False)
    with applied(["mm-disabled"]):
        patched = initialized(config, multimodal=False)
    assert tower_parameters(stock) and not tower_parameters(patched)
    rest = [name for name, _ in stock.named_parameters() if name not in tower_parameters(stock)]
    assert [name for name, _ in patched.named_parameters()] == rest
    assert patched.pp_group is stock.pp_group and patched.lm_head is patched.language_model.embed_tokens


def test_tower_weights_are_passed_over_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with applied(["mm-disabled"]):
        model = initialized(tiny_configs.gemma4_config(), multimodal=False)
        with caplog.at_level("DEBUG", logger="sglang"):
            loaded = model.load_weights(iter(checkpoint(model)))
    assert loaded == {"language_model.norm.weight"} and model.language_model.norm.weight.eq(7).all()
    assert not [line for line in caplog.messages if any(tower in line for tower in TOWERS)]


def test_with_multimodal_towers_are_built_and_loaded_as_before() -> None:
    config, results = tiny_configs.gemma4_config(), []
    for patches in ((), ("mm-disabled",)):
        with applied(patches):
            model = initialized(config, multimodal=True)
            loaded = model.load_weights(iter(checkpoint(model)))
        results.append((sorted(loaded), [name for name, _ in model.named_parameters()], vars(model).keys()))
    assert results[0] == results[1] and any("embed_vision" in name for name in results[0][0])


@pytest.mark.parametrize("load_format", ["sharded_state", "remote", "bitsandbytes"])
def test_formats_read_back_by_parameter_keep_the_towers(load_format: str) -> None:
    with applied(["mm-disabled"]):
        assert tower_parameters(initialized(tiny_configs.gemma4_config(), False, load_format))


def test_load_weights_is_shown_the_text_weights_only() -> None:
    model, rows = SimpleNamespace(_g4diag_text_only=True), [(f"model.{name}.x", None) for name in (*TOWERS, "lm_head")]

    def seen(model: Any, weights: Any) -> list[str]:
        return [name for name, _ in weights]

    assert mm_disabled.weights_loaded(seen, model, iter(rows)) == ["model.lm_head.x"]
    assert len(mm_disabled.weights_loaded(seen, SimpleNamespace(), iter(rows))) == len(rows)


def test_a_model_that_fails_to_build_leaves_the_module_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    from sglang.srt.models import gemma4_mm

    before = vars(gemma4_mm).copy()
    monkeypatch.setattr(gemma4_mm, "LogitsProcessor", None)
    with applied(["mm-disabled"]), pytest.raises(TypeError):
        initialized(tiny_configs.gemma4_config(), multimodal=False)
    monkeypatch.undo()
    assert vars(gemma4_mm) == before
    with applied(["mm-disabled"]):
        assert tower_parameters(initialized(tiny_configs.gemma4_config(), multimodal=True))


@pytest.mark.parametrize("asked", ["get_pp_group", "get_parallel"])
@pytest.mark.parametrize("text_only", [True, False])
def test_the_constructor_is_told_that_the_first_rank_is_elsewhere(
    monkeypatch: pytest.MonkeyPatch, asked: str, text_only: bool
) -> None:
    """Either way it asks: 0.5.21 and later find the group in the runtime context."""
    from sglang.srt.models import gemma4_mm

    group = SimpleNamespace(is_first_rank=True, is_last_rank=True, world_size=1)
    parallel = SimpleNamespace(pp_group=group, tp_size=2)
    monkeypatch.setattr(gemma4_mm, asked, lambda: group if asked == "get_pp_group" else parallel, raising=False)
    before, seen = getattr(gemma4_mm, asked), []

    def constructor(model: Any) -> None:
        answer = getattr(gemma4_mm, asked)()
        model.pp_group = answer if asked == "get_pp_group" else answer.pp_group
        seen.append((model.pp_group.is_first_rank, model.pp_group.world_size, getattr(answer, "tp_size", 2)))

    model = SimpleNamespace()
    token = mm_disabled._text_only.set(text_only)
    try:
        mm_disabled.built(asked, constructor, model)
    finally:
        mm_disabled._text_only.reset(token)
    assert seen == [(not text_only, 1, 2)] and model.pp_group is group and getattr(gemma4_mm, asked) is before


def test_a_hook_without_effect_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mm_disabled, "configured", lambda *args, **kwargs: None)
    with pytest.raises(PatchRefused, match="wanted multimodal off"), applied(["mm-disabled"]):
        raise AssertionError("entered")
