"""Gemma-4 served for text only: multimodal is off unless asked for, and then no tower is built or loaded.

Symptom: a server that is only sent text gives memory to vision and audio. With multimodal on, sglang cuts the static
memory fraction (the fork pyc96/sglang: 0.778 to 0.712 on a 31B; 21.6 % more KV tokens without) and runs no prefill CUDA
graphs; and the towers' weights stay on the GPU.
Cause: ModelConfig has a list of models whose multimodal side is off unless `--enable-multimodal` is given (Gemma-3,
Llama-4, Step-3-VL), and Gemma4ForConditionalGeneration is not on it, in any release up to 0.5.23. And the model
builds its towers whatever the config says. In 0.5.23 a model folder without a processor's files then does not start at
all, even with --skip-tokenizer-init.
Upstream: none. Since 0.5.14 what prefill graphs a model may have hangs on the same switch, and is derived anew here;
since 0.5.21 the constructor asks the runtime context for its pipeline group.

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
from functools import partial
from pathlib import Path
from typing import Any

from g4diag.errors import PatchRefused
from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Form, Patch

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


# Since 0.5.14, beside is_piecewise_cuda_graph_disabled_model, which is False only where multimodal is off or listed.
_GRAPHS = ("is_multimodal_piecewise_cuda_graph_supported", "is_multimodal_breakable_cuda_graph_supported")


def configured(result: None, config: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER ModelConfig.__init__: what enable_multimodal=False gives, if the caller left it to the model's default."""
    given = inspect.signature(type(config).__init__).bind(config, *args, **kwargs).arguments
    if given.get("enable_multimodal") is not None or not _ours(config.hf_config):
        return
    if str(getattr(config.model_impl, "value", config.model_impl)) == "transformers":
        return
    for name in _DERIVED:
        setattr(config, name, False)
    _derive_graphs(config)
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


def built(asked: str, original: Callable[..., None], model: Any, *args: Any, **kwargs: Any) -> None:
    """Around the model's constructor: without towers, if multimodal is off. asked: what it asks for its group."""
    if not _text_only.get():
        original(model, *args, **kwargs)
        return
    from sglang.srt.models import gemma4_mm

    # Its own name for it: the text model, in another module, still sees the real group.
    ask = getattr(gemma4_mm, asked)
    setattr(gemma4_mm, asked, lambda: _ELSEWHERE[asked](ask()))
    try:
        original(model, *args, **kwargs)
    finally:
        setattr(gemma4_mm, asked, ask)
    model.pp_group = model.pp_group.real
    setattr(model, _MARK, True)


def weights_loaded(original: Callable[..., Any], model: Any, weights: Iterable[tuple[str, Any]]) -> Any:
    """Around load_weights: a model built without towers is not shown their weights."""
    if not vars(model).get(_MARK):
        return original(model, weights)
    return original(model, (row for row in weights if not _TOWER.search(row[0])))


def hooks(asked: str) -> tuple[Hook, ...]:
    """The flag, and three for the towers."""
    return (
        Hook(_CONFIG_INIT, "after", configured),
        Hook(_INITIALIZE, "around", initialized),
        Hook(f"{_MODEL}.__init__", "around", partial(built, asked)),
        Hook(f"{_MODEL}.load_weights", "around", weights_loaded),
    )


class _Elsewhere:
    """The pipeline group, with its first rank somewhere else."""

    is_first_rank = False

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class _Parallel:
    """The runtime context's parallel state, whose pipeline group has its first rank somewhere else."""

    def __init__(self, real: Any) -> None:
        self._real, self.pp_group = real, _Elsewhere(real.pp_group)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


_ELSEWHERE: dict[str, Callable[[Any], Any]] = {"get_pp_group": _Elsewhere, "get_parallel": _Parallel}


def _derive_graphs(config: Any) -> None:
    derive = getattr(config, "_derive_multimodal_cuda_graph_support", None)
    if derive is not None:
        derive(False)
    elif _GRAPHS[0] in vars(config):
        from sglang.srt.configs import model_config

        for name in vars(config).keys() & set(_GRAPHS):
            setattr(config, name, False)
        disabled = model_config.is_piecewise_cuda_graph_disabled_model(config.hf_config.architectures)
        config.is_piecewise_cuda_graph_disabled_model = disabled


def _ours(hf_config: Any) -> bool:
    """Gemma4ForConditionalGeneration, and not one half of a disaggregated encoder."""
    architectures = list(getattr(hf_config, "architectures", None) or ())
    halved = getattr(hf_config, "encoder_only", False) or getattr(hf_config, "language_only", False)
    return architectures[:1] == [_ARCHITECTURE] and not halved


def verify(asked: str) -> None:
    """A real ModelConfig must have multimodal off, and the constructor be one that asks for its rank."""
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.models import gemma4_mm

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(f'{{"architectures": ["{_ARCHITECTURE}"], "model_type": "gemma4"}}')
        if ModelConfig(folder).is_multimodal:
            raise PatchRefused(PATCH.name, "multimodal off for Gemma-4", "on")
    read = inspect.unwrap(gemma4_mm.Gemma4ForConditionalGeneration.__init__).__code__.co_names
    if not {asked, "is_first_rank"} <= set(read):
        raise PatchRefused(PATCH.name, f"a constructor that asks {asked} for is_first_rank", ", ".join(read))


def _form(releases: str, asked: str, group: str, *config: str) -> Form:
    return Form(
        releases=releases,
        anchors=(
            *(Anchor(_CONFIG_INIT, text) for text in config),
            Anchor(f"{_MODEL}.__init__", f"self.pp_group = {group}"),
        ),
        hooks=partial(hooks, asked),
        verify=partial(verify, asked),
    )


_IMAGE = "self.is_image_understandable_model = "
PATCH = Patch(
    name="mm-disabled",
    kind="cure",
    why="A text-only Gemma-4 server pays for vision and audio: fewer KV tokens, no prefill graphs, towers in memory.",
    how="After ModelConfig.__init__: multimodal off unless asked for. Then the model has no towers and loads none.",
    upstream="none; the fork pyc96/sglang",
    releases=">=0.5.13",
    anchors=(
        Anchor(_CONFIG_INIT, "mm_disabled_models = ["),
        *(Anchor(_CONFIG_INIT, f"self.{name} =") for name in _DERIVED if not _IMAGE.startswith(f"self.{name} ")),
        Anchor(_INITIALIZE, "model_class(**kwargs)"),
        Anchor(f"{_MODEL}.__init__", "if self.pp_group.is_first_rank:"),
        Anchor(f"{_MODEL}.__init__", "self.vision_tower = PPMissingLayer()"),
    ),
    forms=(
        _form(
            ">=0.5.21",
            "get_parallel",
            "get_parallel().pp_group",
            f"{_IMAGE}(",
            "self._derive_multimodal_cuda_graph_support(enable_multimodal)",
        ),
        _form(
            ">=0.5.14,<0.5.21",
            "get_pp_group",
            "get_pp_group()",
            _IMAGE,
            f"self.{_GRAPHS[0]} = enable_multimodal and (",
        ),
        _form(">=0.5.13,<0.5.14", "get_pp_group", "get_pp_group()", _IMAGE),
    ),
    remove_when="Upstream lists Gemma-4 as off by default and builds towers only when they are used.",
)
