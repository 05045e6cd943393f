"""The attention backends that probes know."""

from __future__ import annotations

from importlib import import_module

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
    """Those whose module is installed and imports. A server has imported what they import; one whose own libraries are
    not on this machine cannot be at work in it."""
    return tuple(attention for attention in known() if _imports(attention.backend.rpartition(".")[0]))


def _imports(module: str) -> bool:
    if source_file(module) is None:
        return False
    try:
        import_module(module)
    except Exception:  # whatever its libraries say about a machine they were not made for
        return False
    return True
