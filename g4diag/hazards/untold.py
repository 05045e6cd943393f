"""Hazards that are neither found nor ruled out, since something of the server is not told: each with what would tell.

What is not told is tried: every hazard is held against the server with each model and GPU that it may have. One that
some of them have, and the server as it is told has not, hangs on what is not told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from g4diag.hazards.deployment import ASSISTANTS, GEMMA4, Deployment
from g4diag.hazards.judging import hazards
from g4diag.model.doctor import DRAFT_CONFIG, MODEL_CONFIG, THE_GPU, OpenHazard

# The least of a config.json that rules ask for: a dense Gemma-4, one with experts and the wide heads of the real
# checkpoints, and another model.
_TARGETS: tuple[Mapping[str, Any], ...] = (
    {"architectures": [GEMMA4[0]], "global_head_dim": 512},
    {"architectures": [GEMMA4[0]], "global_head_dim": 512, "num_experts": 8},
    {"architectures": ["another"], "head_dim": 128},
)
_DRAFTS: tuple[Mapping[str, Any], ...] = ({"architectures": [ASSISTANTS[0]]}, {"architectures": ["another"]})
_GPUS = ((8, 0), (9, 0), (10, 0), (12, 0))


def open_hazards(
    deployment: Deployment, known: Collection[str], patches: Collection[str] = ()
) -> tuple[OpenHazard, ...]:
    """By name. known: those that are found, or possible by the models' names: they are told as such. patches: those
    that will be on; what one of them cures is no longer open."""
    cured = {rule.name for rule in hazards().values() if set(rule.cures) & set(patches)}
    untold = dict(_untold(deployment))
    found = _held(deployment, untold)
    left = {name: _held(deployment, {key: untold[key] for key in untold if key != name}) for name in untold}
    return tuple(
        OpenHazard(name, tuple(fact for fact in untold if name not in left[fact]) or tuple(untold))
        for name in sorted(found - cured - set(known))
    )


def _untold(deployment: Deployment) -> Iterator[tuple[str, tuple[dict[str, Any], ...]]]:
    """What is not told, and what it may be, as fields of a Deployment."""
    if deployment.target is None:
        yield MODEL_CONFIG, tuple({"target": config} for config in _TARGETS)
    if deployment.draft is None and deployment.flag("speculative-draft-model-path"):
        yield DRAFT_CONFIG, tuple({"draft": config} for config in _DRAFTS)
    if deployment.capability is None:
        yield THE_GPU, tuple({"capability": capability} for capability in _GPUS)


def _held(deployment: Deployment, untold: Mapping[str, tuple[dict[str, Any], ...]]) -> set[str]:
    """Hazards that the server has with some of these."""
    rules = [rule for rule in hazards().values() if deployment.is_in(rule.releases)]
    worlds = [replace(deployment, **dict(item for part in world for item in part.items())) for world in _all(untold)]
    return {rule.name for rule in rules if any(rule.found(world) is not None for world in worlds)}


def _all(untold: Mapping[str, tuple[dict[str, Any], ...]]) -> Iterator[tuple[dict[str, Any], ...]]:
    return product(*untold.values())
