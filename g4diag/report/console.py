"""Where a text report is printed: a terminal at its own width, a pipe or a file at one that fits anywhere."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PIPED, NARROWEST = 100, 20


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


def console(piped: int = PIPED, *, whole: bool = False) -> Console:
    """A console of stdout. piped: columns where it is no terminal, which rich would take for 80. Where COLUMNS says how
    wide a pipe is to be written, it is written as a terminal of that width is, without colour; but not
    where lines stay whole for scripts."""
    from rich.console import Console  # the command line is read without it

    found = Console()
    if found.is_terminal:
        return Console(color_system=None) if _chosen[0] is Color.never else found
    asked = 0 if whole else _asked()
    if _chosen[0] is Color.always:
        return Console(width=asked or piped, force_terminal=True, color_system="standard")
    return Console(width=asked, force_terminal=True, color_system=None) if asked else Console(width=piped)


def _asked() -> int:
    """What COLUMNS asks for, 0 where it asks for nothing that can be written."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and len(columns) < 5 and int(columns) >= NARROWEST else 0
