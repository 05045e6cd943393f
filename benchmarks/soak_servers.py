"""The healthy servers of `soak.py`, by kind.

calm, tight: the tiny Gemma-4 pair; calm has room, tight a pool so small that bursts cause retraction. eagle: gpt-oss's
layout with an EAGLE3 draft, whose steps and extend are replayed. whole-prefill: the same target on fa4 without a draft,
its prefills in whole CUDA graphs. mla, mla-nextn: MLA attention on triton, without a draft and with the model's own
next-token layer as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import other_models
import servers

WHOLE = {"cuda_graph_backend_prefill": "full", "cuda_graph_bs_prefill": [64, 128, 256, 512, 1024, 2048]}


@dataclass
class Models:
    """The models, written to `folder` when one is asked for."""

    folder: Path

    @cached_property
    def pair(self) -> dict[str, str]:
        return servers.tiny_models(self.folder / "pair")

    @cached_property
    def gpt_oss(self) -> dict[str, str]:
        return other_models.gpt_oss(self.folder / "gpt-oss")

    @cached_property
    def mla(self) -> dict[str, str]:
        return other_models.deepseek(self.folder / "mla")

    @cached_property
    def mla_nextn(self) -> dict[str, str]:
        return other_models.deepseek(self.folder / "mla-nextn", draft=True)


Kind = Callable[[Models, str], dict[str, Any]]


def pair(**more: Any) -> Kind:
    """The tiny pair on the backend that is asked for."""
    return lambda models, backend: servers.on_backend(backend) | models.pair | more


def whole_prefill(models: Models, backend: str) -> dict[str, Any]:
    """Prefills of up to 2048 new tokens in one graph each."""
    engine = other_models.engine("fa4") | {"model_path": models.gpt_oss["model_path"]} | WHOLE
    del engine["disable_piecewise_cuda_graph"]  # of prefills, in 0.5.23
    return engine


# By name, the arguments of sglang's Engine for the models, on a backend where it is a choice.
KINDS: dict[str, Kind] = {
    "calm": pair(max_total_tokens=200_000, swa_full_tokens_ratio=0.3),
    "tight": pair(max_total_tokens=49_152, swa_full_tokens_ratio=0.5, schedule_conservativeness=0.05),
    "eagle": lambda models, backend: other_models.engine("trtllm_mha", other_models.EAGLE3) | models.gpt_oss,
    "whole-prefill": whole_prefill,
    "mla": lambda models, backend: other_models.engine("triton") | models.mla,
    "mla-nextn": lambda models, backend: other_models.engine("triton", other_models.NEXTN) | models.mla_nextn,
}
