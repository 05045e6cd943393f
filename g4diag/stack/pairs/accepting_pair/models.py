"""The accepting pair as sglang's own model classes on the CPU, float32, in sizes that a test can afford.

The same functions as `tiny_gemma`, whose place this module takes where a draft should be right most of the time:
`Serving(geometry, seed, pair=models)`. The weights do not depend on a seed; the prompts do.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

from g4diag.stack.pairs.accepting_pair import task
from g4diag.stack.pairs.accepting_pair.weights import assistant_weights, target_weights
from g4diag.stack.pairs.tiny_gemma import text_config

VOCAB = task.VOCAB
_HIDDEN, _HEAD_DIM = 72, 64


def target_config(window: int, layer_types: tuple[str, ...] | None = None) -> Any:
    """Gemma4TextConfig: two sliding layers and a full one, one K/V head of 64. window: tokens."""
    types = layer_types or ("sliding_attention", "sliding_attention", "full_attention")
    return text_config(window, types, vocab=VOCAB, hidden=_HIDDEN, inner=16, head_dim=_HEAD_DIM)


def target_model(window: int, seed: int) -> tuple[Any, Any]:
    """(config, Gemma4ForCausalLM) with its weights loaded by its own `load_weights`."""
    from sglang.srt.models.gemma4_causal import Gemma4ForCausalLM

    del seed
    config = target_config(window)
    model = Gemma4ForCausalLM(config)
    model.load_weights((f"model.{name}", tensor) for name, tensor in target_weights(config))
    return config, model.eval()


def assistant_model(window: int, seed: int, layers: int = 4) -> tuple[Any, Any]:
    """(config, Gemma4AssistantForCausalLM), all layers sliding but the last; not yet bound to a target. layers: 2
    to 4, as each sliding layer answers a part of the digits."""
    from sglang.srt.models.gemma4_mtp import Gemma4AssistantForCausalLM

    del seed
    text = target_config(window, ("sliding_attention",) * (layers - 1) + ("full_attention",))
    config = SimpleNamespace(text_config=text, backbone_hidden_size=_HIDDEN, use_ordered_embeddings=False)
    model = Gemma4AssistantForCausalLM(config)
    rows = assistant_weights(text, _HIDDEN)
    model.load_weights((name if "projection" in name else f"model.{name}", tensor) for name, tensor in rows)
    return text, model.eval()


def accepted(prompt: Sequence[int], answered: Sequence[int], drafted: Sequence[int]) -> int:
    """Tokens a verify step would yield for this draft: 1 to its length + 1."""
    return task.accepted(drafted, task.continued(prompt, len(answered) + len(drafted))[len(answered) :])


def prompt(length: int, window: int, generator: torch.Generator) -> list[int]:
    """Token ids of the task, drawn with a seed from `generator`."""
    seed = int(torch.randint(0, 2**31, (1,), generator=generator))
    return task.prompts(1, length, seed, window)[0]
