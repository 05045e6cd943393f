"""Two config.json that transformers and sglang's own model config take, the same bytes every time."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.stack import entry_points
from g4diag.stack.pairs.tiny_pair import ENGINE, VOCAB, WINDOW, write_pair
from g4diag.stack.releases import current


def test_written_twice_it_is_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_pair(tmp_path / "a"), write_pair(tmp_path / "b")
    for one, other in zip(first, second, strict=True):
        assert (one / "config.json").read_bytes() == (other / "config.json").read_bytes()


def test_transformers_and_sglang_read_what_a_hopper_can_run(tmp_path: Path) -> None:
    from sglang.srt.configs.model_config import ModelConfig
    from transformers import AutoConfig

    target, draft = write_pair(tmp_path)
    assert AutoConfig.from_pretrained(target).architectures == ["Gemma4ForConditionalGeneration"]
    assert AutoConfig.from_pretrained(draft).backbone_hidden_size == 512
    served = ModelConfig(str(target), enable_multimodal=False)
    assert served.is_hybrid_swa and served.swa_attention_layer_ids == [0, 1, 2, 3, 4]
    assert served.head_dim == served.swa_head_dim == 256, "head sizes XQA has"
    text = served.hf_text_config
    assert (text.sliding_window, text.vocab_size, text.num_key_value_heads) == (WINDOW, VOCAB, 2)
    assistant = ModelConfig(str(draft), is_draft_model=True).hf_text_config
    assert assistant.num_kv_shared_layers == assistant.num_hidden_layers == 4


def test_the_installed_release_has_every_argument_by_the_name_that_its_file_gives() -> None:
    parser = argparse.ArgumentParser()
    entry_points.with_flags(parser, [])
    given = current().arguments(ENGINE)
    assert len(given) == len(ENGINE)
    assert not set(given) - {action.dest for action in parser._actions}
