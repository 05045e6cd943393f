"""Which traps there are, and which of them a selection means."""

from __future__ import annotations

from g4diag.discover import contributions
from g4diag.errors import unknown
from g4diag.settings import Selection
from g4diag.traps.contract import Trap


def traps() -> dict[str, Trap]:
    """Every trap that imports, by name."""
    rows = contributions("g4diag.traps", "TRAP")
    return {row.value.name: row.value for row in rows if isinstance(row.value, Trap)}


def selected_traps(selection: Selection) -> tuple[str, ...]:
    """Names to arm, a group's name standing for its traps. UsageError: unknown name."""
    known = traps()
    if selection.everything:
        return tuple(known)
    meant = {name: [name] for name in known}
    for trap in known.values():
        if trap.group:
            meant.setdefault(trap.group, []).append(trap.name)
    for name in selection.names:
        if name not in meant:
            raise unknown("trap", name, meant)
    return tuple(dict.fromkeys(each for name in selection.names for each in meant[name]))
