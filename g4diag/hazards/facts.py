"""What a command line says of a server, as facts that a known issue can ask for: each a set of words, or not told.

Only what can be read without the release itself: flags, the models' config.json, the GPU. A fact that may have more
values than are told is open, and neither met nor ruled out by what is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Literal

from g4diag.hazards.deployment import Deployment
from g4diag.model.doctor import DRAFT_CONFIG, MODEL_CONFIG, THE_GPU

Verdict = Literal["met", "open", "ruled out"]
_LOW_RATIO = 0.5


@dataclass(frozen=True)
class Fact:
    """values: what is told. missing: what would tell the rest, "" where nothing else can be true. possible: what the
    rest may be, None where that may be anything."""

    values: frozenset[str]
    missing: str = ""
    possible: frozenset[str] | None = None

    def may_be(self, wanted: Set[str]) -> bool:
        """Whether what is missing could be one of these."""
        return bool(self.missing) and (self.possible is None or bool(self.possible & wanted))


def judge_facts(wanted: Mapping[str, Set[str]], deployment: Deployment) -> tuple[Verdict, tuple[str, ...]]:
    """(whether this server has all that is wanted, what is missing to tell). KeyError for a fact that there is not."""
    missing = []
    for name, values in wanted.items():
        fact = FACTS[name](deployment)
        if fact.values & values:
            continue
        if not fact.may_be(values):
            return "ruled out", ()
        missing.append(fact.missing)
    return ("open" if missing else "met"), tuple(dict.fromkeys(missing))


def _told(*values: str | None) -> Fact:
    return Fact(frozenset(value for value in values if value is not None))


def _open(missing: str, values: Iterable[str] = ()) -> Fact:
    return Fact(frozenset(values), missing)


_HOPPER = (9, 0)
_BACKEND = "the attention backend that sglang chooses"


def _algorithm(deployment: Deployment) -> Fact:
    return _told((deployment.flag("speculative-algorithm") or "none").lower())


def _speculates(deployment: Deployment) -> Fact:
    return _told("yes" if deployment.flag("speculative-algorithm") is not None else "no")


def _draft(deployment: Deployment) -> Fact:
    """none, frozen-kv, or own: with a pool of its own."""
    if deployment.flag("speculative-algorithm") is None:
        return _told("none")
    if deployment.frozen_kv is None:
        return _open(DRAFT_CONFIG)
    return _told("frozen-kv" if deployment.frozen_kv else "own")


def _backends(asked: Iterable[str | None]) -> Fact:
    found = tuple(asked)
    return _open(_BACKEND, filter(None, found)) if None in found else _told(*found)


def _attention(deployment: Deployment) -> Fact:
    """Every backend that is in use."""
    draft = deployment.flag("speculative-draft-attention-backend")
    return _backends((*deployment.backends, *([draft] if draft else [])))


def _drafts_on(deployment: Deployment) -> Fact:
    """Backends of the draft: the one named, or the target's."""
    draft = deployment.flag("speculative-draft-attention-backend")
    if deployment.flag("speculative-algorithm") is None:
        return _told()
    return _told(draft) if draft else _backends(deployment.backends)


def _wrapper(deployment: Deployment) -> Fact:
    """Whether the draft gets the wrapper of two backends."""
    prefill, decode = deployment.backends
    named = deployment.flag("speculative-draft-attention-backend")
    if (
        deployment.flag("speculative-algorithm") is None
        or named
        or (deployment.number("speculative-eagle-topk") or 1) > 1
    ):
        return _told("no")
    if prefill == decode:  # neither is named, too: both are then the same
        return _told("no")
    return _open(_BACKEND) if prefill is None or decode is None else _told("yes")


def _xqa(deployment: Deployment) -> Fact:
    """What runs on FlashInfer's XQA: decode without a draft, draft, verify."""
    if deployment.capability is None:
        there = _xqa(replace(deployment, capability=_HOPPER))
        return Fact(frozenset(), THE_GPU, None if there.missing else there.values)
    if not deployment.xqa_arch:
        return _told()
    decode = deployment.backends[1]
    drafting = deployment.flag("speculative-draft-attention-backend") or decode
    parts = {"decode": decode} if deployment.flag("speculative-algorithm") is None else {"draft": drafting}
    used = [name for name, backend in parts.items() if backend == "trtllm_mha"]
    used += ["verify"] if deployment.verifies_on_xqa else []
    return Fact(frozenset(used), _attention(deployment).missing)


def _graphs(deployment: Deployment) -> Fact:
    """Decode graphs: on, off, or for some batch sizes only."""
    if any(deployment.flag(name) is not None for name in ("disable-cuda-graph", "disable-decode-cuda-graph")):
        return _told("off")
    limits = ("cuda-graph-max-bs-decode", "cuda-graph-max-bs", "cuda-graph-bs-decode", "cuda-graph-bs")
    return _told("some" if any(deployment.flag(name) is not None for name in limits) else "on")


def _page(deployment: Deployment) -> Fact:
    size = deployment.number("page-size")
    return _open("--page-size") if size is None else _told("larger" if size > 1 else "1")


def _model(deployment: Deployment) -> Fact:
    return _open(MODEL_CONFIG) if deployment.is_gemma4 is None else _told("gemma4" if deployment.is_gemma4 else "other")


def _experts(deployment: Deployment) -> Fact:
    return _open(MODEL_CONFIG) if deployment.is_moe is None else _told("moe" if deployment.is_moe else "dense")


def _windows(deployment: Deployment) -> Fact:
    """Whether some layers of the target slide."""
    text = deployment.text_config
    if text is None:
        return _open(MODEL_CONFIG)
    return _told("yes" if deployment.is_gemma4 or text.get("sliding_window") else "no")


def _swa_ratio(deployment: Deployment) -> Fact:
    ratio = deployment.number("swa-full-tokens-ratio")
    return _told("low" if ratio is not None and ratio < _LOW_RATIO else "default")


FACTS: dict[str, Callable[[Deployment], Fact]] = {
    "algorithm": _algorithm,
    "speculates": _speculates,
    "draft": _draft,
    "attention": _attention,
    "drafts_on": _drafts_on,
    "wrapper": _wrapper,
    "xqa": _xqa,
    "graphs": _graphs,
    "page": _page,
    "model": _model,
    "experts": _experts,
    "windows": _windows,
    "swa_ratio": _swa_ratio,
    "topk": lambda deployment: _told("tree" if (deployment.number("speculative-eagle-topk") or 1) > 1 else "chain"),
    "kv": lambda deployment: _told("fp8" if (deployment.flag("kv-cache-dtype") or "").startswith("fp8") else "other"),
    "radix": lambda deployment: _told("off" if deployment.flag("disable-radix-cache") is not None else "on"),
    "disaggregation": lambda deployment: _told(deployment.flag("disaggregation-mode") or "null"),
}
