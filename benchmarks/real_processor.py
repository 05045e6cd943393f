"""A multimodal processor of a model folder that has a config.json alone, so that 0.5.23 serves it as released.

transformers' own Gemma4Processor and its parts with their defaults, over a tokenizer of the special tokens that they
ask for and nothing else: prompts are token ids, and no image is sent.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPECIAL = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
}


def write(folder: Path) -> None:
    """Beside config.json: tokenizer and processor files, the special tokens at the ids that the config says."""
    from transformers import (
        Gemma4AudioFeatureExtractor,
        Gemma4ImageProcessor,
        Gemma4Processor,
        Gemma4VideoProcessor,
    )

    made = Gemma4Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessor(),
        tokenizer=tokenizer(json.loads((folder / "config.json").read_text(encoding="utf-8"))),
        video_processor=Gemma4VideoProcessor(),
    )
    made.save_pretrained(folder)


def tokenizer(config: dict[str, Any]) -> Any:
    """Words are bytes of nobody's text: the special tokens, padding, an unknown one."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3}
    for name, word in (*SPECIAL.items(), ("video_token", "<|video|>")):
        number = config.get(f"{name}_id")
        words[word] = number if isinstance(number, int) else 10 + len(words)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        extra_special_tokens=SPECIAL,
    )
