"""Lines and headings of a text report."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from g4diag.report.plain import plain


def line(text: Text, console: Console) -> None:
    """One line, never wrapped: a verdict is something to grep for."""
    console.print(text, soft_wrap=True, highlight=False)


def heading(text: str, console: Console) -> None:
    """A bold line after an empty one."""
    console.print()
    line(Text(plain(text), style="bold"), console)
