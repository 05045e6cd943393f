"""The scored table of all scenarios as text."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from g4diag.report.lines import line
from g4diag.report.plain import plain
from g4diag.report.repro_states import states
from g4diag.scenario import Board, Row

_SHARES = ("found", "named", "silent", "twin")
_STYLES = {"as expected": "green", "needs a GPU": "dim", "not there yet": "dim"}


def render(board: Board, console: Console) -> None:
    """Print the table, a line for each row that has something to say, and the sum."""
    numbers = [(name, True) for name in (*_SHARES, "seconds")]
    columns = [("scenario", False), *numbers, ("verdict", False), ("here", False)]
    states(columns, map(_cells, board.rows), console, ("seconds", "twin", "silent"))
    for row in board.rows:
        if row.why:
            line(Text(plain(f"{row.scenario}: {row.why}")), console)
        for each in row.left_out:
            text = f"{row.scenario}: {each.state} is not applicable here: {each.why}"
            line(Text(plain(text), style="dim"), console)
    right = sum(row.verdict == "as expected" for row in board.rows)
    asked = sum(row.verdict not in ("needs a GPU", "not there yet") for row in board.rows)
    style = "bold green" if board.exit_code == 0 else "bold red"
    console.print(Text(f"{right} of {asked} scenarios as expected, {board.seconds:.0f} s", style=style))


def _cells(row: Row) -> tuple[Text, ...]:
    shares = [_share(getattr(row.score, name) if row.score else (0, 0)) for name in _SHARES]
    seconds = f"{row.seconds:.0f}" if row.seconds else "-"
    style = _STYLES.get(row.verdict, "bold red")
    here = Text(row.cell.standing if row.cell else "-")
    return (*(Text(cell) for cell in (row.scenario, *shares, seconds)), Text(row.verdict, style=style), here)


def _share(share: tuple[int, int]) -> str:
    right, of = share
    return f"{right}/{of}" if of else "-"
