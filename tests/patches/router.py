"""The MoE router as a chain of torch operators: the reference for upstream's one-launch kernel."""

from __future__ import annotations

from typing import Any


def reference(logits_TE: Any, scale_E: Any, topk: int) -> tuple[Any, Any]:
    """fp32 weights [T, K] and int32 ids [T, K], greatest logit first: softmax over all experts, the top K of it
    renormalised, times the per-expert scale. T tokens, E experts."""
    import torch

    probabilities, ids = torch.softmax(logits_TE.float(), dim=-1).topk(topk, dim=-1)
    weights = probabilities / probabilities.sum(dim=-1, keepdim=True) * scale_E.float()[ids]
    return weights, ids.to(torch.int32)


def tolerances() -> dict[str, float]:
    """fp32 on both sides, in another order of operations."""
    return {"rtol": 1e-5, "atol": 1e-6}
