"""The accepting pair as two folders that a server loads: config.json and model.safetensors, bfloat16.

Same sizes and layers as `tiny_pair`, but for the vocabulary, and the same engine arguments, but for the loader. The
vision tower that the architecture insists on gets small random weights and is never asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from g4diag.stack.pairs import tiny_pair
from g4diag.stack.pairs.accepting_pair.task import VOCAB
from g4diag.stack.pairs.accepting_pair.weights import assistant_weights, target_weights

ENGINE: dict[str, Any] = tiny_pair.ENGINE | {"load_format": "auto"}
_TEXT = "model.language_model."


def write_pair(directory: Path) -> tuple[Path, Path]:
    """(target, draft) directories under `directory`. The same bytes every time."""
    target, draft = tiny_pair.target_config(VOCAB), tiny_pair.assistant_config(VOCAB)
    text = target_weights(target.text_config)
    named = {f"{_TEXT}{name}": tensor for name, tensor in text} | dict(_unasked(target))
    rows = assistant_weights(draft.text_config, draft.backbone_hidden_size)
    named_draft = {name if "projection" in name else f"model.{name}": tensor for name, tensor in rows}
    return _write(directory / "target", target, named), _write(directory / "draft", draft, named_draft)


def _write(folder: Path, config: Any, named: dict[str, torch.Tensor]) -> Path:
    from safetensors.torch import save_file

    tiny_pair.write_config(folder, config)
    part = folder / ".model.safetensors.part"
    stored = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in sorted(named.items())}
    save_file(stored, part, metadata={"format": "pt"})
    part.replace(folder / "model.safetensors")
    return folder


def _unasked(config: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Everything of transformers' model that is not the text model, by name and shape."""
    from transformers import Gemma4ForConditionalGeneration

    with torch.device("meta"):
        model = Gemma4ForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith(_TEXT) and name != "lm_head.weight":
            yield name, torch.empty(tensor.shape).normal_(0.0, 0.02, generator=generator)
