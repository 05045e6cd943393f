"""A scenario on real servers as text: what was put back, the table of servers, the lines that killed them."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from g4diag.report.plain import plain
from g4diag.scenario import ServerOutcome, ServerReading

_COLUMNS = ("state", "path", "finished", "SWA use", "accept len", "tok/s", "TPOT ms", "seconds", "tokens", "outcome")
_NUMERIC = _COLUMNS[2:8]


def render(outcome: ServerOutcome, console: Console) -> None:
    """Print the whole report to `console`."""
    console.print(Text(f"g4diag repro {outcome.scenario} --device cuda", style="bold"))
    for values in (outcome.gpu, outcome.versions, {**outcome.load, "seed": outcome.seed}, outcome.engine):
        line = " ".join(f"{name}={value if value is not None else 'none'}" for name, value in values.items())
        console.print(Text(plain(line), style="dim"), soft_wrap=True)
    if outcome.faults:
        put_back = ", ".join(outcome.faults)
        console.print(Text(f"fault states re-introduced: {put_back}; sglang as released has none of them", "yellow"))
    table = Table(box=SIMPLE_HEAD)
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _NUMERIC else "left")
    for reading in outcome.readings:
        table.add_row(*_cells(outcome, reading))
    console.print(table)
    for reading in outcome.readings:
        for line in filter(None, (reading.error, *reading.core)):
            console.print(Text(plain(f"{reading.state}/{reading.path}: {line}")), soft_wrap=True)
    odd = [reading for reading in outcome.readings if not reading.as_expected]
    for reading in odd:
        word = "INCONCLUSIVE" if reading.inconclusive else "NOT AS EXPECTED"
        text = f"{word}: {reading.state}/{reading.path}: wanted {reading.expected}, found {reading.outcome}"
        console.print(Text(plain(f"{text}; log: {reading.log}"), style="bold red"), soft_wrap=True)
    if not odd:
        console.print(Text(f"{len(outcome.readings)} servers, all as expected", style="bold green"))


def _cells(outcome: ServerOutcome, reading: ServerReading) -> tuple[Text, ...]:
    same = outcome.same_tokens(reading)
    tokens = reading.digest if same is None else f"{same[1]}/{same[2]} as {same[0]}"
    start = "" if reading.start_seconds is None else f" ({reading.start_seconds:.0f} to start)"
    cells = (
        reading.state,
        reading.path,
        f"{reading.finished}/{reading.requests}",
        "-" if reading.swa_use is None else f"{reading.swa_use:.0%}",
        "-" if reading.accept_length is None else f"{reading.accept_length:.3f}",
        "-" if reading.output_rate is None else f"{reading.output_rate:.0f}",
        "-" if reading.tpot_ms is None else f"{reading.tpot_ms:.2f}",
        f"{reading.seconds:.0f}{start}",
        tokens or "-",
    )
    style = "green" if reading.as_expected else "bold red"
    return (*(Text(cell) for cell in cells), Text(reading.outcome, style=style))
