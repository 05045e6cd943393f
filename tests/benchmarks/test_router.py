"""The router benchmark's judge: upstream's kernels pass it, interpreted, and broken routers do not."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

pytest.importorskip(
    "sglang.srt.layers.attention.triton_ops", reason="the benchmark is of 0.5.13, whose kernels lie there"
)

import torch


@pytest.mark.parametrize("tokens", [1, 5])
def test_upstreams_routers_are_right(tokens: int) -> None:
    errors, problems = importlib.import_module("router").checked(tokens, seed=3, device="cpu")
    assert problems == [] and set(errors) == {"chain", "post-topk", "fused"}


def test_ties_may_go_either_way() -> None:
    router = importlib.import_module("router")
    logits, scale = torch.zeros(3, router.EXPERTS), torch.rand(router.EXPERTS) + 0.5

    def last(logits: Any, scale: Any) -> Any:
        weights, ids = router.chain(logits.flip(-1), scale.flip(-1))
        return weights, router.EXPERTS - 1 - ids

    for choice in (router.chain, last, router.fused):
        assert router.wrong(choice, logits, scale)[1] == ""


@pytest.mark.parametrize(
    ("breaking", "said"),
    [
        (lambda weights, ids: (weights * 1.0001, ids), "weights"),
        (lambda weights, ids: (weights, ids.roll(1, -1)), "weights"),
        (lambda weights, ids: (weights, ids[:, :1].expand_as(ids)), "an expert twice"),
        (lambda weights, ids: (weights, torch.arange(8, dtype=torch.int32).expand_as(ids)), "not among the largest"),
        (lambda weights, ids: (weights, ids - 200), "no expert"),
        (lambda weights, ids: (weights, ids.long()), "int64"),
        (lambda weights, ids: (weights * float("nan"), ids), "weights"),
    ],
)
def test_a_broken_router_is_caught(breaking: Any, said: str) -> None:
    router = importlib.import_module("router")
    logits, scale = router.inputs(4, torch.float32, 1, "cpu")
    assert said in router.wrong(lambda *given: breaking(*router.chain(*given)), logits, scale)[1]
