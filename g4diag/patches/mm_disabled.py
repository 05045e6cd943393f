"""Gemma-4 served for text only: multimodal is off unless asked for, and then no tower is built or loaded.

Symptom: a server that is only sent text gives memory to vision and audio. With multimodal on, sglang cuts the static
memory fraction (the fork pyc96/sglang: 0.778 to 0.712 on a 31B; 21.6 % more KV tokens without) and runs no prefill CUDA
graphs; and the towers' weights stay on the GPU.
Cause: ModelConfig has a list of models whose multimodal side is off unless `--enable-multimodal` is given (Gemma-3,
Llama-4, Step-3-VL), and Gemma4ForConditionalGeneration is not on it, in any release up to 0.5.23. And the model
builds its towers whatever the config says.
Upstream: none.

Where the fork was wrong: it added the name to the list and took that for the whole. Its KV tokens came from the
memory fraction; the towers were built and loaded as before. Here they are not, also where the user says
enable_multimodal=False: the constructor sees a pipeline group whose first rank is elsewhere, so upstream's own branch
for a rank without towers runs, and load_weights is not shown their weights.
Untouched: multimodal that is asked for, transformers' own implementation, encoder-only and language-only servers, the
encoder-free unified model. Weight formats that are read back parameter by parameter (sharded state, remote) keep the
towers, since such a file may hold them.
"""

from __future__ import annotations

import inspect
import logging
import re
import tempfile
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from g4diag.errors import PatchRefused
from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Patch

logger = logging.getLogger(__name__)

_ARCHITECTURE = "Gemma4ForConditionalGeneration"
_CONFIG_INIT = "sglang.srt.configs.model_config.ModelConfig.__init__"
_INITIALIZE = "sglang.srt.model_loader.loader._initialize_model"
_MODEL = f"sglang.srt.models.gemma4_mm.{_ARCHITECTURE}"
# What ModelConfig.__init__ makes of enable_multimodal; nothing else of it depends on that.
_UNDERSTANDS = ("is_audio_model", "is_image_understandable_model", "is_audio_understandable_model")
_DERIVED = ("is_multimodal", *_UNDERSTANDS, "is_multimodal_chunked_prefill_supported")
_BY_PARAMETER = ("bitsandbytes", "rdma", "remote", "remote_instance", "sharded_state")
_TOWER = re.compile(r"(^|\.)(vision_tower|embed_vision|audio_tower|embed_audio)\.")
_MARK = "_g4diag_text_only"

_text_only: ContextVar[bool] = ContextVar("text_only", default=False)


def configured(result: None, config: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER ModelConfig.__init__: what enable_multimodal=False gives, if the caller left it to the model's default."""
    given = inspect.signature(type(config).__init__).bind(config, *args, **kwargs).arguments
    if given.get("enable_multimodal") is not None or not _ours(config.hf_config):
        return
    if str(getattr(config.model_impl, "value", config.model_impl)) == "transformers":
        return
    for name in _DERIVED:
        setattr(config, name, False)
    logger.info("g4diag: multimodal is off for Gemma-4; --enable-multimodal turns it on")


def initialized(original: Callable[..., Any], model_config: Any, load_config: Any, *args: Any, **kwargs: Any) -> Any:
    """Around the loader's construction of a model, the one place that knows its ModelConfig."""
    load_format = str(getattr(load_config.load_format, "value", load_config.load_format))
    off = _ours(model_config.hf_config) and not model_config.is_multimodal and load_format not in _BY_PARAMETER
    token = _text_only.set(off)
    try:
        return original(model_config, load_config, *args, **kwargs)
    finally:
        _text_only.reset(token)


def built(original: Callable[..., None], model: Any, *args: Any, **kwargs: Any) -> None:
    """Around the model's constructor: without towers, if multimodal is off."""
    if not _text_only.get():
        original(model, *args, **kwargs)
        return
    from sglang.srt.models import gemma4_mm

    # Its own name for it: the text model, in another module, still sees the real group.
    group = gemma4_mm.get_pp_group
    gemma4_mm.get_pp_group = lambda: _Elsewhere(group())  # type: ignore[assignment,return-value,unused-ignore]
    try:
        original(model, *args, **kwargs)
    finally:
        gemma4_mm.get_pp_group = group
    model.pp_group = group()
    setattr(model, _MARK, True)


def weights_loaded(original: Callable[..., Any], model: Any, weights: Iterable[tuple[str, Any]]) -> Any:
    """Around load_weights: a model built without towers is not shown their weights."""
    if not vars(model).get(_MARK):
        return original(model, weights)
    return original(model, (row for row in weights if not _TOWER.search(row[0])))


def hooks() -> tuple[Hook, ...]:
    """The flag, and three for the towers."""
    return (
        Hook(_CONFIG_INIT, "after", configured),
        Hook(_INITIALIZE, "around", initialized),
        Hook(f"{_MODEL}.__init__", "around", built),
        Hook(f"{_MODEL}.load_weights", "around", weights_loaded),
    )


class _Elsewhere:
    """The pipeline group, with its first rank somewhere else."""

    is_first_rank = False

    def __init__(self, group: Any) -> None:
        self._group = group

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)


def _ours(hf_config: Any) -> bool:
    """Gemma4ForConditionalGeneration, and not one half of a disaggregated encoder."""
    architectures = list(getattr(hf_config, "architectures", None) or ())
    halved = getattr(hf_config, "encoder_only", False) or getattr(hf_config, "language_only", False)
    return architectures[:1] == [_ARCHITECTURE] and not halved


def verify() -> None:
    """A real ModelConfig must have multimodal off, and the constructor be one that asks for its rank."""
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.models import gemma4_mm

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(f'{{"architectures": ["{_ARCHITECTURE}"], "model_type": "gemma4"}}')
        if ModelConfig(folder).is_multimodal:
            raise PatchRefused(PATCH.name, "multimodal off for Gemma-4", "on")
    read = inspect.unwrap(gemma4_mm.Gemma4ForConditionalGeneration.__init__).__code__.co_names
    if not {"get_pp_group", "is_first_rank"} <= set(read):
        raise PatchRefused(PATCH.name, "a constructor that asks get_pp_group for is_first_rank", ", ".join(read))


PATCH = Patch(
    name="mm-disabled",
    kind="cure",
    why="A text-only Gemma-4 server pays for vision and audio: fewer KV tokens, no prefill graphs, towers in memory.",
    how="After ModelConfig.__init__: multimodal off unless asked for. Then the model has no towers and loads none.",
    upstream="none; the fork pyc96/sglang",
    releases=">=0.5.12",
    anchors=(
        Anchor(_CONFIG_INIT, "mm_disabled_models = ["),
        *(Anchor(_CONFIG_INIT, f"self.{name} =") for name in _DERIVED),
        Anchor(_INITIALIZE, "return model_class(**kwargs)"),
        Anchor(f"{_MODEL}.__init__", "if self.pp_group.is_first_rank:"),
        Anchor(f"{_MODEL}.__init__", "self.vision_tower = PPMissingLayer()"),
    ),
    hooks=hooks,
    verify=verify,
    remove_when="Upstream lists Gemma-4 as off by default and builds towers only when they are used.",
)
