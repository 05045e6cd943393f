"""The outcome of a scenario of drives as text: what was put back, the table of states, the verdict of the first."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from g4diag.report.lines import line
from g4diag.report.plain import plain
from g4diag.report.repro_states import foot, head, states, told
from g4diag.scenario import DriveOutcome, DriveReading

_COLUMNS = (("state", False), ("checked", True), ("damaged", True), ("judged", True), ("verdict", False))
_LEGEND = "checked: ids, rows or steps looked at; damaged: those that are wrong; judged: views that a trap had to judge"


def render(outcome: DriveOutcome, console: Console) -> None:
    """Print the whole report to `console`."""
    head(outcome, console)
    if outcome.upstream:
        line(Text(plain(f"upstream: {outcome.upstream}"), style="dim"), console)
    states(_COLUMNS, map(_cells, outcome.readings), console, ("judged", "checked"))
    line(Text(_LEGEND, style="dim"), console)
    for reading in outcome.readings:
        said = "; ".join(filter(None, (reading.what, reading.error or reading.says)))
        line(Text(plain(f"{reading.state}: {said}")), console)
    told(outcome, console)
    for path in outcome.dumps.values():
        line(Text(f"dump: {plain(str(path))}   next: g4diag inspect {plain(str(path))}"), console)
    foot(outcome, console)
    odd = [reading for reading in outcome.readings if not reading.as_expected]
    for reading in odd:
        text = f"NOT AS EXPECTED: {reading.state}: wanted {reading.expected}, found {reading.outcome}"
        console.print(Text(text, style="bold red"))
    if not odd:
        console.print(Text(f"{len(outcome.readings)} states, all as expected", style="bold green"))


def _cells(reading: DriveReading) -> tuple[Text, ...]:
    verdict = reading.outcome + ("" if reading.as_expected else f" (wanted {reading.expected})")
    judged = "-" if reading.judged is None else str(reading.judged)
    cells = (reading.state, str(reading.checked), str(reading.damaged), judged)
    style = "green" if reading.as_expected else "bold red"
    return (*(Text(cell) for cell in cells), Text(verdict, style=style))
