"""An inspection as text: the verdict line first, then what stands behind it. Formats; computes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from g4diag.analyzers import Inspection
from g4diag.model import Finding
from g4diag.report.plain import plain

_STYLE = {"ERROR": "bold red", "WARNING": "bold yellow", "CLEAN": "bold green", "INCONCLUSIVE": "bold yellow"}
_GRADES = {"measured": "green", "derived": "cyan", "guess": "yellow"}


def render(inspection: Inspection, console: Console) -> None:
    """Print the whole report to `console`."""
    _verdict(inspection.of("verdict"), console)
    for finding in inspection.of("cure"):
        _graded(finding, console)
    _heading(f"{inspection.name}: {inspection.outcome}", console)
    for finding in inspection.of("provenance"):
        _graded(finding, console)
    _reads(inspection.of("nearest_meaning"), console)
    _heading("pools", console)
    _pools(inspection.of("pools"), console)
    _heading("claims judged by today's traps", console)
    for finding in inspection.of("rejudge"):
        _graded(finding, console)
    shown = {"verdict", "cure", "provenance", "nearest_meaning", "pools", "rejudge"}
    for finding in inspection.findings:
        if finding.subject not in shown:
            _graded(finding, console)


def _line(text: Text, console: Console) -> None:
    """One line, never wrapped: a verdict is something to grep for."""
    console.print(text, soft_wrap=True, highlight=False)


def _heading(text: str, console: Console) -> None:
    console.print()
    _line(Text(plain(text), style="bold"), console)


def _verdict(findings: Iterable[Finding], console: Console) -> None:
    for finding in findings:
        if finding.data.get("line") == "verdict":
            text = plain(finding.text)
            _line(Text(text, style=_STYLE.get(text.partition(":")[0], "bold")), console)
        else:
            _graded(finding, console, "nearest meaning: " if finding.data.get("line") == "nearest meaning" else "")


def _graded(finding: Finding, console: Console, prefix: str = "") -> None:
    grade = Text(f"  {finding.grade:>8}  ", style=_GRADES[finding.grade])
    _line(grade.append(prefix + plain(finding.text), style="default"), console)


def _reads(findings: Sequence[Finding], console: Console) -> None:
    for finding in findings:
        data = finding.data
        step = f", step {data['step']}" if data["step"] >= 0 else ""
        path = f", {data['path']}" if data["path"] else ""
        title = f"layer {data['layer_id']} ({data['layer_kind']}) reads the {data['pool']} pool"
        _heading(f"{title} of {data['num_pages']} pages{path}{step}", console)
        _table(
            ("row", "request", "column", "page", "past end", "belongs there", "meaning in the other space"),
            [_entry(entry) for entry in data["entries"]],
            console,
        )
        if data["left_out"]:
            _line(Text(f"  and {data['left_out']} more entries of this read"), console)
    if findings and findings[-1].data["left_out_reads"]:
        _line(Text(f"  and {findings[-1].data['left_out_reads']} more reads with bad entries"), console)


def _entry(entry: dict[str, Any]) -> tuple[Any, ...]:
    meaning = f"{entry['meaning']} ({entry['grade']})"
    keys = ("row", "rid", "column", "value", "past_the_end", "expected")
    return (*(entry[key] for key in keys), meaning)


def _pools(findings: Sequence[Finding], console: Console) -> None:
    pools = [finding.data for finding in findings if "num_pages" in finding.data]
    rows = [(p["name"], p["space"], p["num_pages"], p["page_size"], _percent(p["use"])) for p in pools]
    _table(("pool", "ids are", "pages", "tokens a page", "in use"), rows, console)
    for finding in findings:
        if "num_pages" not in finding.data:
            _graded(finding, console)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("-" if cell is None else plain(str(cell))) for cell in row))
    console.print(table, highlight=False)
