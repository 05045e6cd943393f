"""A server without a model has the sizes, pools and names of one that has it, and imports neither models nor a
ModelRunner."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.stack.drive import cpu
from g4diag.stack.drive.backends import SMALL
from g4diag.stack.drive.server_without_model import ServerWithoutModel
from g4diag.stack.drive.serving import Serving
from g4diag.stack.pairs import tiny_gemma

# Of a runner that loaded its model.
_OF_MODELS = {"model", "eager_runner", "attn_backend"}


def test_its_sizes_are_those_of_the_model() -> None:
    config, sizes = tiny_gemma.target_config(48), tiny_gemma.sizes(48)
    assert len(vars(sizes)) >= 7
    for name, value in vars(sizes).items():
        assert getattr(config, name) == value, name


def test_its_runner_is_as_a_runner_with_a_model() -> None:
    cpu.prepare_environment()
    whole, bare = Serving(SMALL, 0), ServerWithoutModel(SMALL, 0)
    window = bare.model.get_attention_sliding_window_size()
    assert window == whole.model.get_attention_sliding_window_size() == whole.runner.sliding_window_size
    names = vars(whole.runner).keys() - _OF_MODELS - {"init_kv_index_translator"}
    assert len(names) > 20 and names <= vars(bare.runner).keys()
    for name in sorted(names):
        theirs, ours = getattr(whole.runner, name), getattr(bare.runner, name)
        assert _plain(theirs) == _plain(ours), name
    assert type(whole.runner.model_config) is type(bare.runner.model_config)


def test_its_plan_binds_as_a_runner_with_a_model_has_it() -> None:
    """The translator is built here with what a ModelRunner gives it."""
    cpu.prepare_environment()
    whole, bare = Serving(SMALL, 0), ServerWithoutModel(SMALL, 0)
    theirs, ours = getattr(whole.runner, "kv_index_translator", None), bare.runner.kv_index_translator
    assert type(theirs) is type(ours)
    assert (theirs is None) is ("kv_index_translator" not in vars(whole.runner))
    if theirs is not None:
        assert vars(theirs).keys() == vars(ours).keys() and len(vars(ours)) > 3
        assert {name: _plain(value) for name, value in vars(theirs).items()} == {
            name: _plain(value) for name, value in vars(ours).items()
        }


def _plain(value: Any) -> Any:
    """A value that can be compared, or else its kind."""
    if value is None or isinstance(value, bool | int | float | str | tuple):
        return value
    if hasattr(value, "hf_text_config"):  # a model's configuration
        sized = {name: _plain(each) for name, each in vars(value).items() if not callable(each)}
        return {**sized, "hf_text_config": None, "hf_config": None}
    return (type(value), getattr(value, "shape", None))
