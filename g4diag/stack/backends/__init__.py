"""The attention backends that probes know."""

from __future__ import annotations

from g4diag.discover import contributions
from g4diag.hooks.anchors import source_file
from g4diag.stack.backends.contract import Attention

__all__ = ["Attention", "here", "known"]

PACKAGE, CONSTANT = "g4diag.stack.backends", "ATTENTION"


def known() -> tuple[Attention, ...]:
    """Every backend file that imports, by name."""
    rows = contributions(PACKAGE, CONSTANT)
    return tuple(row.value for row in rows if isinstance(row.value, Attention))


def here() -> tuple[Attention, ...]:
    """Those whose module is installed. Looked up as files; nothing is imported."""
    return tuple(attention for attention in known() if source_file(attention.backend.rpartition(".")[0]) is not None)
