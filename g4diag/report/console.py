"""Where a text report is printed: a terminal at its own width, a pipe or a file at one that fits anywhere."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PIPED = 100


class Color(StrEnum):
    """Whether reports are coloured. auto: on a terminal, unless NO_COLOR is set. always: a pipe is
    written as a terminal of its width is."""

    auto = "auto"
    always = "always"
    never = "never"


_chosen = [Color.auto]


def choose(color: Color) -> None:
    """For every console after this."""
    _chosen[0] = color


def console(piped: int = PIPED) -> Console:
    """A console of stdout. piped: columns where it is no terminal, which rich would take for 80."""
    from rich.console import Console  # the command line is read without it

    found = Console()
    if found.is_terminal:
        return Console(color_system=None) if _chosen[0] is Color.never else found
    if _chosen[0] is Color.always:
        return Console(width=piped, force_terminal=True, color_system="standard")
    return Console(width=piped)
