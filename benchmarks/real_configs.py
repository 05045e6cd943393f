"""The public geometry of Gemma-4 26B-A4B and 31B as a config.json each, and the bytes of their weights.

Figures are those of the published configurations: layers, heads, experts, window, vocabulary, vision tower. One full
layer after every five sliding ones. What sglang makes of them is asked of its own classes: `weights` builds its model
on the meta device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VOCAB = 262_144
PLAIN_IDS = 250_000  # ids below this are text; images, sound and their brackets lie above


@dataclass(frozen=True)
class Geometry:
    """A model. heads: query, sliding K/V, full K/V. page_size: that of the fork's pool sizes. more: its experts."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: tuple[int, int, int]
    page_size: int
    head_dims: tuple[int, int] = (256, 512)  # sliding, full
    window: int = 1024
    vocab: int = VOCAB
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def full_layers(self) -> int:
        return self.layers // 6

    def bytes_per_token(self) -> tuple[int, int]:
        """bf16 K and V of one token: in all full layers, in all sliding ones."""
        full = self.full_layers * self.heads[2] * self.head_dims[1] * 4
        return full, (self.layers - self.full_layers) * self.heads[1] * self.head_dims[0] * 4


EXPERTS = {"enable_moe_block": True, "num_experts": 128, "top_k_experts": 8, "moe_intermediate_size": 704}
MODELS = {
    "26b": Geometry("26B-A4B", 30, 2816, 2112, (16, 8, 2), 1, more=EXPERTS),
    "31b": Geometry("31B", 60, 5376, 21_504, (32, 16, 4), 64),
    # For tests: every part of the first, the least there is.
    "tiny": Geometry(
        "tiny", 6, 64, 128, (2, 2, 1), 1, (32, 64), 32, 512, EXPERTS | {"num_experts": 8, "moe_intermediate_size": 32}
    ),
}
VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 72,
    "standardize": True,
    "use_clipped_linears": False,
}


def config(geometry: Geometry) -> Any:
    """Its Gemma4Config."""
    from transformers import Gemma4Config, Gemma4TextConfig

    query, sliding, full = geometry.heads
    text = Gemma4TextConfig(
        vocab_size=geometry.vocab,
        hidden_size=geometry.hidden,
        intermediate_size=geometry.intermediate,
        num_hidden_layers=geometry.layers,
        layer_types=(["sliding_attention"] * 5 + ["full_attention"]) * geometry.full_layers,
        num_attention_heads=query,
        num_key_value_heads=sliding,
        num_global_key_value_heads=full,
        head_dim=geometry.head_dims[0],
        global_head_dim=geometry.head_dims[1],
        sliding_window=geometry.window,
        max_position_embeddings=262_144,
        hidden_size_per_layer_input=0,
        attention_k_eq_v=True,
        final_logit_softcapping=30.0,
        tie_word_embeddings=True,
        dtype="bfloat16",
        **geometry.more,
    )
    small = {"vision_config": VISION} if geometry.vocab == VOCAB else _small_vision(geometry.vocab)
    made = Gemma4Config(text_config=text.to_dict(), audio_config=None, **small)
    made.architectures = ["Gemma4ForConditionalGeneration"]
    made.dtype = "bfloat16"
    return made


def write(geometry: Geometry, folder: Path) -> Path:
    """A folder below `folder` with its config.json. One of its own: sglang remembers what it read of a path."""
    from g4diag.stack.pairs.tiny_pair import write_config

    return write_config(folder / geometry.name, config(geometry))


def model(geometry: Geometry, folder: Path, device: str = "meta") -> Any:
    """sglang's own model of it, its weights without content. Wants `cpu.prepare_environment()` before the first import
    of sglang, 0.5.23."""
    import torch
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.layers.moe.utils import initialize_moe_config
    from sglang.srt.models.gemma4_mm import Gemma4ForConditionalGeneration
    from sglang.srt.runtime_context import get_parallel

    from g4diag.stack.drive import cpu

    cpu.start_process(cpu.server_args(page_size=geometry.page_size, moe_runner_backend="triton"))
    initialize_moe_config()
    made = ModelConfig(str(write(geometry, folder)), dtype="bfloat16")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with get_parallel().override(moe_ep_rank=0, moe_tp_rank=0), torch.device(device):
            return Gemma4ForConditionalGeneration(made.hf_config)
    finally:
        torch.set_default_dtype(before)


def weights(geometry: Geometry, folder: Path) -> dict[str, int]:
    """Bytes of its weights: `all`, and `towers` of them, which serve images alone. As `model`."""
    made = model(geometry, folder)
    # The tied head is the embedding under a second name.
    sizes = {id(row): row.numel() * row.element_size() for row in made.parameters()}
    towers = {id(row) for name, row in made.named_parameters() if "vision" in name}
    return {"all": sum(sizes.values()), "towers": sum(sizes[key] for key in towers)}


def _small_vision(vocab: int) -> dict[str, Any]:
    from g4diag.stack.pairs import tiny_pair

    return {"vision_config": tiny_pair._vision()} | {
        name: vocab - 1 - index for index, name in enumerate(tiny_pair._MEDIA_TOKENS)
    }
