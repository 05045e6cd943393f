"""What the reports of a scenario's states on the CPU have in common: the head, and the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from g4diag.report.lines import line
from g4diag.report.plain import plain
from g4diag.scenario import DriveOutcome, Outcome


def head(outcome: Outcome | DriveOutcome, console: Console, sizes: str = "") -> None:
    """Which scenario, on what, with what sizes, and which faults were put back for it."""
    console.print(Text(f"g4diag repro {outcome.scenario}", style="bold"))
    versions = " ".join(f"{name} {version or 'none'}" for name, version in outcome.versions.items())
    for said in filter(None, (plain(versions), sizes)):
        line(Text(said, style="dim"), console)
    if outcome.faults:
        put_back = ", ".join(outcome.faults)
        console.print(Text(f"fault states re-introduced: {put_back}; sglang as released has none of them", "yellow"))


def foot(outcome: Outcome | DriveOutcome, console: Console) -> None:
    """Which states do not apply here, and how the bug stands in what is installed."""
    for each in outcome.left_out:
        line(Text(plain(f"{each.state}: not applicable here: {each.why}"), style="dim"), console)
    if outcome.cell is not None:
        line(Text(plain(f"here: {outcome.cell.standing} ({outcome.cell.why})")), console)


def states(columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[Text]], console: Console) -> None:
    """A table of states. columns: name, and whether it holds numbers."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name, numeric in columns:
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
