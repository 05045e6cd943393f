"""Which attention backends a release takes for a Gemma-4, and where each can run: asked of the hazards, which refuse a
command line, so that the two never say different things."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from g4diag.hazards.deployment import GEMMA4, Deployment
from g4diag.hazards.judging import judge
from g4diag.model.doctor import BackendRow
from g4diag.stack.backends import known

_BACKENDS = ("trtllm_mha", "triton", "fa4")
_CAPABILITIES = ((8, 0), (9, 0), (10, 0), (12, 0))
_SIDES = ("prefill", "decode")
_CHOOSING = (
    *("attention-backend", "prefill-attention-backend", "decode-attention-backend"),
    "speculative-draft-attention-backend",
)
_PLAIN, _HEADS = "triton", (256, 512)
# Where the hazards know no rule of an architecture: the release and the GPU that it was seen to run on.
_RAN = {"fa4": ("0.5.23", (9, 0))}


def attention_backends(release: str, capability: tuple[int, int] | None) -> tuple[BackendRow, ...]:
    """Those of `release` that run on NVIDIA GPUs. capability: (9, 0) and the like; None where no GPU is known."""
    return tuple(_rows(release, capability))


def unwatched(flags: Mapping[str, str]) -> tuple[str, ...]:
    """One line for each of these flags that names an attention backend whose tables no trap sees."""
    watched = {value for attention in known() for value in attention.chosen_by}
    return tuple(
        f"--{flag} {flags[flag]}: NOT WATCHED: g4diag has no file for this attention backend, and no trap sees what its"
        " layers are handed"
        for flag in _CHOOSING
        if flags.get(flag, "") and flags[flag] not in watched
    )


def _rows(release: str, capability: tuple[int, int] | None) -> Iterator[BackendRow]:
    here = "no GPU seen" if capability is None else "this is sm{}{}".format(*capability)
    for name in _BACKENDS:
        runs = {side: [each for each in _CAPABILITIES if _runs(release, each, side, name)] for side in _SIDES}
        if not any(runs.values()):
            continue
        told = [None if capability is None else _runs(release, capability, side, name) for side in _SIDES]
        where = "; ".join(f"{side} on {_named(runs[side])}" for side in _SIDES)
        if all(each == list(_CAPABILITIES) for each in runs.values()):
            where = "any GPU"
        if name in _RAN:
            told = [True if (release, capability) == _RAN[name] else None] * len(_SIDES)
            where = f"ran on {_named(_RAN[name][1:])} in {_RAN[name][0]}; no other is known here"
        xqa = _heads(release, capability) if name == "trtllm_mha" and capability is not None else ""
        yield BackendRow(name, told[0], told[1], f"{where}{xqa}; {here}")


def _runs(release: str, capability: tuple[int, int], side: str, name: str, config: Mapping[str, Any] = {}) -> bool:
    """Whether nothing known refuses `name` on that side, with a plain backend on the other."""
    flags = {f"{other}-attention-backend": _PLAIN for other in _SIDES} | {f"{side}-attention-backend": name}
    target = {"architectures": GEMMA4[:1], **config}
    return not any(row.fatal for row in judge(Deployment(release, flags, target=target, capability=capability)))


def _named(capabilities: Sequence[tuple[int, int]]) -> str:
    return ", ".join("sm{}{}".format(*each) for each in capabilities) or "no GPU"


def _heads(release: str, capability: tuple[int, int]) -> str:
    """The widest heads that decode takes on this GPU, where there is a limit."""
    taken = [head for head in _HEADS if _runs(release, capability, "decode", "trtllm_mha", {"head_dim": head})]
    if capability[0] not in (9, 12) or not taken:
        return ""
    return f"; decode is FlashInfer's XQA here, heads of at most {max(taken)} for one query a row"
