"""Tiny models of other kinds than the Gemma-4 pair, random weights, and engine arguments for them on a Hopper GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import servers

from g4diag.stack.pairs.tiny_pair import write_config

HIDDEN, VOCAB, WINDOW, CONTEXT = 512, 2048, 128, 8192
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
SHARED = {"hidden_size": HIDDEN, "vocab_size": VOCAB, "max_position_embeddings": CONTEXT, "torch_dtype": "bfloat16"}
YARN = {"rope_type": "yarn", "factor": 2.0, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}
YARN |= {"original_max_position_embeddings": 4096}
_DRAFTING = {"speculative_num_steps": 3, "speculative_eagle_topk": 1, "speculative_num_draft_tokens": 4}
EAGLE3 = _DRAFTING | {"speculative_algorithm": "EAGLE3"}
NEXTN = _DRAFTING | {"speculative_algorithm": "EAGLE"}
# Of the pair's arguments: what names backends one by one, and its draft.
_OF_THE_PAIR = ("prefill_attention_backend", "decode_attention_backend", "speculative_draft_attention_backend")


def engine(backend: str, draft: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The pair's arguments for another model, all of it on one attention backend. draft: EAGLE3 or NEXTN."""
    left = {*_OF_THE_PAIR, "enable_multimodal", *EAGLE3}
    kept = {key: value for key, value in servers.ENGINE.items() if key not in left}
    kept |= {"attention_backend": backend, "context_length": CONTEXT, "moe_runner_backend": "triton"}
    return kept | ({} if draft is None else {**draft, "speculative_draft_attention_backend": backend})


def gpt_oss(folder: Path) -> dict[str, str]:
    """Full and sliding layers in turn, with attention sinks and experts, and an EAGLE3 draft that has its own K/V pool:
    engine arguments that name the two, written to `folder`."""
    from transformers import GptOssConfig, LlamaConfig

    target = GptOssConfig(
        **SHARED,
        **HEADS,
        architectures=["GptOssForCausalLM"],
        num_hidden_layers=8,
        layer_types=["sliding_attention", "full_attention"] * 4,
        sliding_window=WINDOW,
        intermediate_size=HIDDEN,
        num_local_experts=4,
        num_experts_per_tok=2,
    )
    draft = LlamaConfig(
        **SHARED,
        **HEADS,
        architectures=["LlamaForCausalLMEagle3"],
        num_hidden_layers=1,
        intermediate_size=HIDDEN,
        draft_vocab_size=VOCAB,
        tie_word_embeddings=False,
    )
    paths = write_config(folder / "target", target), write_config(folder / "draft", draft)
    return dict(zip(("model_path", "speculative_draft_model_path"), map(str, paths), strict=True))


def deepseek(folder: Path, draft: bool = False) -> dict[str, str]:
    """MLA attention of DeepSeek-V3's ranks in four layers: engine arguments that name the model, written to `folder`.
    draft: its last layer has experts, and so has its next-token layer, which drafts; else it has neither."""
    from transformers import DeepseekV3Config

    config = DeepseekV3Config(
        **SHARED,
        architectures=["DeepseekV3ForCausalLM"],
        num_hidden_layers=4,
        first_k_dense_replace=3 if draft else 4,
        num_nextn_predict_layers=1,
        num_attention_heads=16,
        num_key_value_heads=16,
        q_lora_rank=HIDDEN,
        kv_lora_rank=512,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
        intermediate_size=HIDDEN,
        moe_intermediate_size=256,
        n_routed_experts=32,
        n_group=8,
        topk_group=4,
        num_experts_per_tok=4,
        n_shared_experts=1,
        topk_method="noaux_tc",
        scoring_func="sigmoid",
        moe_layer_freq=1,
        rope_scaling=YARN,
    )
    return {"model_path": str(write_config(folder / "deepseek", config))}
