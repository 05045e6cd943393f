"""A selftest as text: the verdict, then a line a trap with what was broken, and what is wrong in red."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from g4diag.model.doctor import Selftest, SelftestRow
from g4diag.report.lines import line
from g4diag.report.plain import plain

_COLUMNS = ("trap", "how it was broken", "fired", "others that fired", "checked", "s")


def render(selftest: Selftest, console: Console) -> None:
    """Print the whole report to `console`."""
    versions = " ".join(f"{name} {version or 'none'}" for name, version in selftest.versions.items())
    line(_verdict(selftest), console)
    line(Text(plain(versions), style="dim"), console)
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for row in selftest.rows:
        table.add_row(*_cells(row))
    console.print(table)
    for row in selftest.rows:
        if row.problem:
            line(Text(plain(f"{row.trap}: {row.problem}"), style="red"), console)


def _verdict(selftest: Selftest) -> Text:
    failed = [row.trap for row in selftest.rows if row.problem]
    if selftest.exit_code:
        return Text(f"FAILED: g4diag: selftest of {len(failed)} of {len(selftest.rows)} traps", style="bold red")
    done = f"each of {len(selftest.rows)} traps fired when its invariant was broken, and not before"
    return Text(f"PASSED: g4diag: {done}", style="bold green")


def _cells(row: SelftestRow) -> tuple[str, ...]:
    others = ", ".join(name for name in row.fired if name != row.trap)
    fired = "yes" if row.trap in row.fired else "no"
    healthy, broken = row.checked
    return row.trap, row.how, fired, others or "-", f"{healthy} + {broken}", f"{row.seconds:.2f}"
