"""The attention backends that probes know."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from g4diag.discover import contributions
from g4diag.errors import PatchRefused
from g4diag.hooks.anchors import has_module
from g4diag.hooks.dispatcher import refusal
from g4diag.stack.backends.contract import Attention, hook

__all__ = ["Attention", "Fit", "fit", "known", "why_not"]

PACKAGE, CONSTANT = "g4diag.stack.backends", "ATTENTION"


def known() -> tuple[Attention, ...]:
    """Every backend file that imports, by name."""
    rows = contributions(PACKAGE, CONSTANT)
    return tuple(row.value for row in rows if isinstance(row.value, Attention))


class Fit(NamedTuple):
    """Which backends can be watched in this process. watched: installed, importing, and of the form that we know.
    refused: by name, those of another form, and what was wanted."""

    watched: tuple[Attention, ...]
    refused: dict[str, PatchRefused]


def fit() -> Fit:
    """Each known backend asked once. A server has imported what they import; one whose own libraries are not on this
    machine cannot be at work in it, and is in neither."""
    asked = [(attention, why_not(attention)) for attention in _installed()]
    return Fit(
        tuple(attention for attention, why in asked if why is None),
        {attention.name: why for attention, why in asked if why is not None},
    )


def why_not(attention: Attention) -> PatchRefused | None:
    """What of this backend the installed release does not have, None if all is there."""
    calls = [call.point for call in attention.calls_here() if call.point is not None]
    points = [attention.built, *attention.forwards, *calls, *([attention.table] if attention.table else [])]
    return next((why for point in points if (why := refusal(hook(point, "before", _nothing)))), None)


def _nothing(*args: object, **kwargs: object) -> None:
    """Never called: only whether it could be hooked is asked."""


def _installed() -> tuple[Attention, ...]:
    return tuple(attention for attention in known() if _can_run(attention))


def _can_run(attention: Attention) -> bool:
    module = attention.backend.rpartition(".")[0]
    if not has_module(module):
        return False
    try:
        imported = import_module(module)
    except Exception:  # whatever its libraries say about a machine they were not made for
        return False
    return attention.can_run(imported)
