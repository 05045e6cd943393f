"""The tiny Gemma-4 pair for a real server: two config.json files, nothing else.

With `--load-format dummy --skip-tokenizer-init` sglang needs neither weights nor a tokenizer, so a target and its
assistant are two configs. The sizes are those a Hopper can run: head_dim = global_head_dim = 256, which FlashInfer's
XQA decode kernels have (real Gemma-4 global layers use 512). The architecture is the multimodal one, because sglang
0.5.13 derives `swa_num_key_value_heads` for that one only; its vision tower is built whatever the flags say, so it
is given the least there is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VOCAB = 2048
WINDOW = 128
CONTEXT = 8192
HEAD_DIM = 256

# Arguments of sglang's Engine for this pair on a Hopper GPU, the same for everything that serves it.
ENGINE: dict[str, Any] = {
    "load_format": "dummy",
    "skip_tokenizer_init": True,
    "enable_multimodal": False,
    "page_size": 64,
    "max_total_tokens": 200_000,
    "swa_full_tokens_ratio": 0.15,
    "max_running_requests": 32,
    "mem_fraction_static": 0.5,
    "speculative_algorithm": "NEXTN",
    "speculative_num_steps": 3,
    "speculative_eagle_topk": 1,
    "speculative_num_draft_tokens": 4,
    "prefill_attention_backend": "triton",
    "decode_attention_backend": "trtllm_mha",
    "speculative_draft_attention_backend": "trtllm_mha",
    "sampling_backend": "pytorch",
    "grammar_backend": "none",
    "disable_piecewise_cuda_graph": True,
    "cuda_graph_bs": [1, 2, 4, 8, 12, 16, 24, 32],
    "decode_log_interval": 5,
    "log_level": "info",
}


def target_config(vocab: int = VOCAB) -> Any:
    """Gemma4Config: five sliding layers and a full one, hidden 512, 8 heads, 2 K/V heads, window 128."""
    from transformers import Gemma4Config

    config = Gemma4Config(
        text_config=_text(vocab, 512, ("sliding_attention",) * 5 + ("full_attention",)).to_dict(),
        vision_config=_vision(),
        audio_config=None,
        # The defaults are past this vocabulary, and no image or sound is ever sent.
        **{name: vocab - 1 - i for i, name in enumerate(_MEDIA_TOKENS)},
    )
    config.architectures = ["Gemma4ForConditionalGeneration"]
    config.dtype = "bfloat16"
    return config


def assistant_config(vocab: int = VOCAB) -> Any:
    """Gemma4AssistantConfig: three sliding layers and a full one, hidden 256, all of them sharing the target's K/V."""
    from transformers import Gemma4AssistantConfig

    types = ("sliding_attention",) * 3 + ("full_attention",)
    text = _text(vocab, 256, types, num_kv_shared_layers=len(types))
    config = Gemma4AssistantConfig(text_config=text.to_dict(), backbone_hidden_size=512)
    config.architectures = ["Gemma4AssistantForCausalLM"]
    config.dtype = "bfloat16"
    return config


def write_pair(directory: Path) -> tuple[Path, Path]:
    """(target, draft) directories under `directory`, each with its config.json. The same bytes every time."""
    return write_config(directory / "target", target_config()), write_config(directory / "draft", assistant_config())


def write_config(folder: Path, config: Any) -> Path:
    """`folder`, made and given this config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config.to_dict(), indent=2, sort_keys=True, default=str)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    return folder


_MEDIA_TOKENS = (
    "boi_token_id",
    "eoi_token_id",
    "image_token_id",
    "video_token_id",
    "boa_token_id",
    "eoa_token_index",
    "audio_token_id",
)


def _text(vocab: int, hidden: int, layer_types: tuple[str, ...], **more: Any) -> Any:
    from transformers import Gemma4TextConfig

    return Gemma4TextConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=len(layer_types),
        layer_types=list(layer_types),
        num_attention_heads=8,
        num_key_value_heads=2,
        num_global_key_value_heads=2,
        head_dim=HEAD_DIM,
        global_head_dim=HEAD_DIM,
        sliding_window=WINDOW,
        max_position_embeddings=CONTEXT,
        hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=0,
        dtype="bfloat16",
        **more,
    )


def _vision() -> dict[str, Any]:
    return {
        "model_type": "gemma4_vision",
        "hidden_size": 128,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "global_head_dim": 64,
        "position_embedding_size": 16,
    }
