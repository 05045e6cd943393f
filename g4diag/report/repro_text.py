"""A scenario's outcome as text: what was put back, the table of states, the verdict of the first bad read."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from g4diag.report.lines import line
from g4diag.report.plain import plain
from g4diag.report.repro_states import foot, head, states, told
from g4diag.scenario import Outcome, Reading

# One line a reading at 120 columns. entries: live page ids of the tables the draft was handed; past: past the end.
_COLUMNS = (
    ("state", False),
    ("path", False),
    ("SWA", True),
    ("entries", True),
    ("diverge", True),
    ("past", True),
    ("wrong", True),
    ("max/pages", True),
    ("rel.err", True),
    ("tokens=truth", True),
    ("accept", True),
    ("verdict", False),
)
# Told by the others, or by the verdict: what goes first on a narrow terminal.
_LESS = ("rel.err", "SWA", "wrong", "max/pages", "entries", "diverge", "tokens=truth")
_SAYS = {"equal": "equal to the truth", "faults": "reads past the pool", "wrong": "wrong K/V, no fault"}


def render(outcome: Outcome, console: Console) -> None:
    """Print the whole report to `console`."""
    sizes = " ".join(f"{name}={value}" for name, value in outcome.geometry.items())
    head(outcome, console, f"seed={outcome.seed} {sizes} index kernels: {outcome.index_kernels}")
    states(_COLUMNS, map(_cells, outcome.readings), console, _LESS)
    told(outcome, console)
    if outcome.dump is not None:
        line(Text(f"dump: {plain(str(outcome.dump))}   next: g4diag inspect {plain(str(outcome.dump))}"), console)
    for reading in outcome.readings:
        if reading.error:
            line(Text(plain(f"{reading.state}/{reading.path}: {reading.error}")), console)
    foot(outcome, console)
    odd = [reading for reading in outcome.readings if not reading.as_expected]
    for reading in odd:
        text = f"NOT AS EXPECTED: {reading.state}/{reading.path}: wanted {reading.expected}, found {reading.outcome}"
        line(Text(plain(text), style="bold red"), console)
    if not odd:
        console.print(Text(f"{len(outcome.readings)} readings, all as expected", style="bold green"))


def _cells(reading: Reading) -> tuple[Text, ...]:
    agreement = "-" if reading.agreement is None else f"{reading.agreement:.0%}"
    if reading.rows_faulted:
        agreement += f", {reading.rows_faulted} fault"
    verdict = _SAYS.get(reading.outcome, reading.outcome) + (
        "" if reading.as_expected else f" (wanted {reading.expected})"
    )
    plain_cells = (
        reading.state,
        reading.path,
        f"{reading.swa_use:.0%}",
        str(reading.checked),
        str(reading.divergent),
        str(reading.out_of_range),
        str(reading.wrong_in_range),
        f"{reading.largest}/{reading.bound}",
        f"{reading.relative_error:.3f}",
        agreement,
        "-" if reading.accept_length is None else f"{reading.accept_length:.2f}",
    )
    style = "green" if reading.as_expected else "bold red"
    return (*(Text(cell) for cell in plain_cells), Text(verdict, style=style))
