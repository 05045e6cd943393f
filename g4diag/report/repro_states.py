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
        text = f"fault states re-introduced: {put_back}; sglang as released has none of them"
        line(Text(text, "yellow"), console)


def foot(outcome: Outcome | DriveOutcome, console: Console) -> None:
    """Which states do not apply here, and how the bug stands in what is installed."""
    for each in outcome.left_out:
        line(Text(plain(f"{each.state}: not applicable here: {each.why}"), style="dim"), console)
    if outcome.cell is not None:
        line(Text(plain(f"here: {outcome.cell.standing} ({outcome.cell.why})")), console)


def states(
    columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[Text]], console: Console, drop: Sequence[str] = ()
) -> None:
    """A table of states. columns: name, and whether it holds numbers. drop: those that go first where not all fit: they
    can be told from the others, or say more of what the verdict says. The rest is never cut."""
    kept, cells = list(columns), [list(row) for row in rows]
    for name in drop:
        if _width(kept, cells) <= console.width:
            break
        at = [each for each, _ in kept].index(name)
        kept.pop(at)
        for row in cells:
            row.pop(at)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for (name, numeric), widest in zip(kept, _widths(kept, cells), strict=True):
        table.add_column(name, justify="right" if numeric else "left", min_width=widest)
    for row in cells:
        table.add_row(*row)
    console.print(table, crop=False)


def _widths(columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[Text]]) -> list[int]:
    return [max([len(name), *(row[n].cell_len for row in rows)]) for n, (name, _) in enumerate(columns)]


def _width(columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[Text]]) -> int:
    """What the widest cells need, with two of space behind each and one in front of all."""
    return sum(_widths(columns, rows)) + 2 * len(columns) + 1


def told(outcome: Outcome | DriveOutcome, console: Console) -> None:
    """What g4diag says of the first bad state. Where the release is cured, that state is one that was put back."""
    put_back = bool(outcome.faults) and outcome.cell is not None and outcome.cell.standing == "cured"
    if outcome.lines and put_back:
        text = "the installed sglang is cured; with the fault put back on purpose, this is what g4diag says of it:"
        line(Text(text, style="bold"), console)
    for each in outcome.lines:
        line(Text(plain(f"  {each}" if put_back else each)), console)
