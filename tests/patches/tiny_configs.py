"""Directories with the config.json of a tiny Gemma-4 each, as a server would be pointed at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DENSE: dict[str, Any] = {"enable_moe_block": False}
MOE: dict[str, Any] = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32}


def gemma4_config(**text: Any) -> Any:
    """Gemma4Config with a vision and an audio tower of one layer each. text: more for the text config."""
    from transformers import Gemma4AudioConfig, Gemma4Config, Gemma4VisionConfig

    from g4diag.stack.pairs.tiny_gemma import target_config

    heads = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma4Config(
        text_config=target_config(window=8).to_dict() | text,
        vision_config=Gemma4VisionConfig(
            **heads, num_key_value_heads=2, head_dim=8, intermediate_size=16, position_embedding_size=16
        ).to_dict(),
        audio_config=Gemma4AudioConfig(**heads, output_proj_dims=16).to_dict(),
    )
    config.text_config.swa_num_key_value_heads = 1
    config.architectures = ["Gemma4ForConditionalGeneration"]
    return config


def write(folder: Path, architecture: str = "Gemma4ForConditionalGeneration", **text: Any) -> str:
    """The directory `folder`, made, with a config.json of that architecture."""
    rows = gemma4_config(**text).to_dict() | {"architectures": [architecture]}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(rows, default=str))
    return str(folder)


def command_line(path: str, *more: str) -> list[str]:
    """Arguments that the real prepare_server_args accepts on a machine without a GPU."""
    fixed = ["--device", "cpu", "--attention-backend", "triton", "--load-format", "dummy", "--skip-tokenizer-init"]
    return ["--model-path", path, *fixed, *more]
