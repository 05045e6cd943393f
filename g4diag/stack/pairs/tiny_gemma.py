"""A tiny random-weight Gemma-4 target and its assistant, through sglang's own model classes.

Random weights accept nothing; what they are for is to make every layer's K/V matter to the next token, so
that a wrong page changes the draft's output. Deterministic in `seed`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

VOCAB = 256
SLIDING_LAYERS = 2
_HIDDEN, _HEADS, _KV_HEADS, _HEAD_DIM = 32, 2, 1, 16


def target_config(window: int, layer_types: tuple[str, ...] | None = None) -> Any:
    """Gemma4TextConfig: two sliding layers and a full one, one K/V head of 16. window: tokens."""
    types = layer_types or ("sliding_attention",) * SLIDING_LAYERS + ("full_attention",)
    return text_config(window, types, vocab=VOCAB, hidden=_HIDDEN, inner=32, head_dim=_HEAD_DIM)


def sizes(window: int) -> Any:
    """The sizes of `target_config`, by the same names, without importing transformers."""
    return SimpleNamespace(
        vocab_size=VOCAB,
        hidden_size=_HIDDEN,
        num_attention_heads=_HEADS,
        num_key_value_heads=_KV_HEADS,
        head_dim=_HEAD_DIM,
        sliding_window=window,
        layer_types=["sliding_attention"] * SLIDING_LAYERS + ["full_attention"],
    )


def text_config(
    window: int, layer_types: tuple[str, ...], *, vocab: int, hidden: int, inner: int, head_dim: int
) -> Any:
    """Gemma4TextConfig of two query heads and one K/V head on every layer. inner: of the MLP."""
    from transformers import Gemma4TextConfig

    config = Gemma4TextConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=len(layer_types),
        num_attention_heads=_HEADS,
        num_key_value_heads=_KV_HEADS,
        head_dim=head_dim,
        global_head_dim=head_dim,
        sliding_window=window,
        layer_types=list(layer_types),
        hidden_size_per_layer_input=0,
        num_kv_shared_layers=0,
    )
    config.swa_num_key_value_heads = 1  # derived by sglang's config loader for multimodal architectures only
    return config


def target_model(window: int, seed: int) -> tuple[Any, Any]:
    """(config, Gemma4ForCausalLM), float32, on the CPU."""
    from sglang.srt.models.gemma4_causal import Gemma4ForCausalLM

    config = target_config(window)
    return config, _with_weights(Gemma4ForCausalLM(config), seed)


def assistant_model(window: int, seed: int, layers: int = 2) -> tuple[Any, Any]:
    """(config, Gemma4AssistantForCausalLM), all layers sliding but the last; not yet bound to a target."""
    from sglang.srt.models.gemma4_mtp import Gemma4AssistantForCausalLM

    text = target_config(window, ("sliding_attention",) * (layers - 1) + ("full_attention",))
    config = SimpleNamespace(text_config=text, backbone_hidden_size=text.hidden_size, use_ordered_embeddings=False)
    # PreTrainedModel reads only the text config; the assistant's own fields are plain attributes.
    return text, _with_weights(Gemma4AssistantForCausalLM(config), seed + 1)


def own_pool_draft_model(window: int, seed: int, first: str = "sliding") -> tuple[Any, Any]:
    """(config, Gemma4ForCausalLM) of one sliding and one full layer, for a draft that keeps its own K/V. first: "full"
    for two of those."""
    from sglang.srt.models.gemma4_causal import Gemma4ForCausalLM

    config = target_config(window, (f"{first}_attention", "full_attention"))
    return config, _with_weights(Gemma4ForCausalLM(config), seed + 2)


def prompt(length: int, window: int, generator: torch.Generator) -> list[int]:
    """Random token ids; the window does not matter to them."""
    import torch

    del window
    return torch.randint(0, VOCAB, (length,), generator=generator).tolist()


def _with_weights(model: Any, seed: int) -> Any:
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                parameter.fill_(1.0)
                continue
            parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
            if "o_proj" in name:
                parameter.mul_(4.0)  # attention must outweigh the residual, or wrong K/V would not show
    return model.eval()
