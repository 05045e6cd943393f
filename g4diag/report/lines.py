"""Lines, headings and tables of a text report, for a terminal of any width."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from g4diag.report.plain import plain

_INDENT, _DEEPEST = "  ", 14
_PROSE = 34  # columns below which prose beside a table is a sliver


def line(text: Text, console: Console) -> None:
    """One line: whole where it goes to a pipe, to be grepped for; on a terminal broken between words, never in one."""
    if not console.is_terminal or text.cell_len <= console.width:
        console.print(text, soft_wrap=True, highlight=False)
        return
    depth = min(_hanging(text.plain), _DEEPEST)
    for n, part in enumerate(text.divide(_breaks(text.plain, console.width, depth))):
        part.rstrip()
        console.print(Text(" " * depth if n else "").append_text(part), soft_wrap=True, highlight=False)


def _breaks(text: str, width: int, depth: int) -> list[int]:
    """Where lines begin: at words. The first is as wide as the terminal, those below it are put in by `depth`."""
    found, start, room = [], 0, width
    for word in re.finditer(r"\S+", text):
        if cell_len(text[start : word.end()]) > room and text[start : word.start()].strip():
            found.append(word.start())
            start, room = word.start(), max(width - depth, 20)
    return found


def _hanging(text: str) -> int:
    """How far what follows is put in: under what stands behind the label or the grade, where there is one."""
    start = len(text) - len(text.lstrip())
    gap = text.find("  ", start)
    if 0 <= gap < _DEEPEST:
        return len(text) - len(text[gap:].lstrip())
    return start + len(_INDENT)


def page(text: str, console: Console) -> None:
    """Plain lines that are made already."""
    for each in text.split("\n"):
        line(Text(each), console)


def heading(text: str, console: Console) -> None:
    """A bold line after an empty one."""
    console.print()
    line(Text(plain(text), style="bold"), console)


def told(text: str, console: Console, style: str = "") -> None:
    """One line of a sentence that may hold what others wrote."""
    line(Text(plain(text), style=style), console)


def section(title: str, lines: Iterable[str], console: Console) -> None:
    """A heading and what stands under it."""
    heading(title, console)
    for each in lines:
        told(f"  {each}", console)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    console: Console,
    drop: Sequence[str] = (),
    wraps: bool = False,
    styles: Sequence[str] = (),
) -> None:
    """Rows under their heads. drop: columns that can be told from the others, the first to go first where all of them
    do not fit; the rest is never cut. wraps: the last column is prose, and goes on below itself on a terminal, or below
    its row where little room is left beside it. styles: one a row, if any."""
    kept, cells = list(columns), [["-" if cell is None else plain(str(cell)) for cell in row] for row in rows]
    for name in drop:
        if _width(kept, cells) <= console.width:
            break
        at = kept.index(name)
        kept.pop(at)
        cells = [[cell for n, cell in enumerate(row) if n != at] for row in cells]
    if wraps and console.is_terminal:
        room = console.width - _width(kept[:-1], [row[:-1] for row in cells])
        if room < _PROSE:
            _with_prose_below(kept, cells, console, styles)
            return
        cells = [[*row[:-1], _wrapped(row[-1], room)] for row in cells]
    widths = _widths(kept, cells)
    for style, row in zip_longest(["bold", *styles], [kept, *cells], fillvalue=""):
        _print_row(row, widths, console, style)


def _with_prose_below(
    columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console, styles: Sequence[str]
) -> None:
    """Each row's last cell on lines of its own, put in a little."""
    widths = _widths(columns[:-1], [row[:-1] for row in rows])
    _print_row(columns[:-1], widths, console, "bold")
    for style, row in zip_longest(styles, rows, fillvalue=""):
        _print_row(row[:-1], widths, console, style)
        line(Text(f"{_INDENT}{row[-1]}"), console)


def _print_row(row: Sequence[str], widths: Sequence[int], console: Console, style: str = "") -> None:
    for cut in _physical(row):
        padded = "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(cut, widths, strict=True))
        console.print(Text(padded.rstrip(), style=style), soft_wrap=True, highlight=False)


def _physical(row: Sequence[str]) -> Iterable[Sequence[str]]:
    """A row as lines of a screen: a cell that goes on below itself has several."""
    return zip_longest(*(cell.split("\n") for cell in row), fillvalue="")


def _wrapped(text: str, room: int) -> str:
    return "\n".join(textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False))


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    lines = ([name, *(line for row in rows for line in row[n].split("\n"))] for n, name in enumerate(columns))
    return [max(map(cell_len, column)) for column in lines]


def _width(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Cells across, two of space behind each column."""
    return sum(_widths(columns, rows)) + 2 * len(columns)
