"""What is on in this process, by name: cures, faults and traps. It goes into every dump and into the log, since a dump
without it cannot be judged. Whoever puts something on says so here, and takes it back when it goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Literal

Kind = Literal["patches", "faults", "traps"]
Manifest = dict[str, list[str]]

_on: dict[Kind, list[str]] = {"patches": [], "faults": [], "traps": []}


def recorded(kind: Kind, names: Iterable[str]) -> ExitStack:
    """Say, until the result is closed, that these are on."""
    undo = ExitStack()
    for name in names:
        _on[kind].append(name)
        undo.callback(_on[kind].remove, name)
    return undo


def is_on(name: str) -> bool:
    """Whether a patch of that name is on."""
    return name in _on["patches"] or name in _on["faults"]


def armed_manifest() -> Manifest:
    """What is on now: {"patches": cures, "faults": faults, "traps": traps}, each sorted, without doubles."""
    return {kind: sorted(set(names)) for kind, names in _on.items()}
