"""Where a text report is printed: a terminal at its own width, a pipe or a file at one that fits anywhere."""

from __future__ import annotations

from rich.console import Console

PIPED = 100


def console(piped: int = PIPED) -> Console:
    """A console of stdout. piped: columns where it is no terminal, which rich would take for 80."""
    found = Console()
    return found if found.is_terminal else Console(width=piped)
