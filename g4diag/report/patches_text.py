"""The patch series as text: a line a patch, faults marked, the whole case of one, and what verifying it showed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from g4diag.model.doctor import PatchRow, SkippedRow, VerifyRow
from g4diag.report.plain import plain

FAULT = "FAULT"
_FITS = ("available", "applied", "upstream")
_STATES = {"available": "green", "applied": "green", "upstream": "cyan", "refused": "bold red", "broken": "bold red"}


def render(rows: Sequence[PatchRow], console: Console) -> None:
    """One row a patch, then what the faults are. Wanted and found are told where they keep a patch from applying."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("patch", "kind", "status", "in all", "why"):
        table.add_column(column, overflow="fold", no_wrap=column == "patch")
    for row in rows:
        kind = Text(FAULT, "bold red") if row.kind == "fault" else Text(plain(row.kind))
        refused = "" if row.state in _FITS else f"wanted {row.wanted or '-'}, found {row.found or '-'}. "
        cells = ("yes" if row.in_all else "", refused + row.why)
        state = Text(row.state, _STATES.get(row.state, ""))
        table.add_row(Text(plain(row.name)), kind, state, *(Text(plain(cell)) for cell in cells))
    console.print(table)
    if faults := [row.name for row in rows if row.kind == "fault"]:
        text = f"{FAULT}S put a bug back on purpose; never applied unless named: {', '.join(faults)}"
        console.print(Text(plain(text), style="bold red"), soft_wrap=True)


def render_one(row: PatchRow, console: Console) -> None:
    """Everything the file says of itself, one field a line."""
    if row.kind == "fault":
        console.print(Text(f"{FAULT}: {plain(row.name)} puts a bug back on purpose", style="bold red"), soft_wrap=True)
    fields = {
        "patch": f"{row.name} ({row.kind}{', a demonstration' if row.partial else ''})",
        "status": f"{row.state}; wanted {row.wanted or '-'}, found {row.found or '-'}",
        "why": row.why,
        "changes": row.how,
        "upstream": row.upstream,
        "releases": row.releases,
        "needs": ", ".join(row.needs) or "-",
        "in all": "yes" if row.in_all else "no",
        "remove when": row.remove_when,
    }
    for name, value in fields.items():
        console.print(Text(f"{name:>12}  ", style="bold").append(plain(value), style="default"), soft_wrap=True)


def render_verified(rows: Sequence[VerifyRow], skipped: Sequence[SkippedRow], console: Console) -> None:
    """One line a patch, then one a target that it changed; last, how many there were, and how many were skipped."""
    for row in rows:
        mark = f" [{FAULT}]" if row.kind == "fault" else ""
        head = f"verified{mark} {row.name}" if row.verified else f"NOT VERIFIED{mark} {row.name}: {row.error}"
        head += " (upstream: sglang has it; put on over sglang's own)" * row.upstream
        console.print(Text(plain(head), style="green" if row.verified else "bold red"), soft_wrap=True)
        for target in row.changed:
            console.print(Text(f"  changed {plain(target)}"), soft_wrap=True)
    good = all(row.verified for row in rows)
    console.print(Text(_closing(rows, skipped), style="bold green" if good else "bold red"), soft_wrap=True)


def _closing(rows: Sequence[VerifyRow], skipped: Sequence[SkippedRow]) -> str:
    """As `9 of 9 patches applied and verified, 2 of them upstream, 7 of them together too. 13 skipped: 13 faults, by
    name only`."""
    single = [row for row in rows if row.name != "all"]
    told = f"{sum(row.verified for row in single)} of {len(single)} patches applied and verified"
    if upstream := sum(row.upstream for row in single):
        told += f", {upstream} of them upstream"
    for row in rows:
        if row.name == "all":
            told += f", {len(row.changed)} of them together too" if row.verified else ", NOT all together"
    reasons = Counter(row.why for row in skipped)
    why = "; ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"{told}. {len(skipped)} skipped" + f": {why}" * bool(why)
