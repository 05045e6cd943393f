"""A scenario on real servers as text: what was put back, the table of servers, the lines that killed them."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from g4diag.report.lines import line
from g4diag.report.plain import plain
from g4diag.report.repro_states import states
from g4diag.scenario import ServerOutcome, ServerReading

_COLUMNS = ("state", "path", "finished", "SWA use", "accept len", "tok/s", "TPOT ms", "seconds", "tokens", "outcome")
_NUMERIC = _COLUMNS[2:8]


def render(outcome: ServerOutcome, console: Console) -> None:
    """Print the whole report to `console`."""
    console.print(Text(f"g4diag repro {outcome.scenario} --device cuda", style="bold"))
    for values in (outcome.gpu, outcome.versions, {**outcome.load, "seed": outcome.seed}, outcome.engine):
        told = " ".join(f"{name}={value if value is not None else 'none'}" for name, value in values.items())
        line(Text(plain(told), style="dim"), console)
    if outcome.faults:
        put_back = ", ".join(outcome.faults)
        text = f"fault states re-introduced: {put_back}; sglang as released has none of them"
        line(Text(text, "yellow"), console)
    columns = [(name, name in _NUMERIC) for name in _COLUMNS]
    rows = (_cells(outcome, reading) for reading in outcome.readings)
    states(columns, rows, console, ("seconds", "TPOT ms", "SWA use", "tok/s", "tokens"))
    for reading in outcome.readings:
        for told in filter(None, (reading.error, *reading.core)):
            line(Text(plain(f"{reading.state}/{reading.path}: {told}")), console)
        if said := _witnesses(reading):
            line(Text(plain(f"{reading.state}/{reading.path}: {said}")), console)
    odd = [reading for reading in outcome.readings if not reading.as_expected]
    for reading in odd:
        word = "INCONCLUSIVE" if reading.inconclusive else "NOT AS EXPECTED"
        wanted, found = " ".join(_end(reading, expected=True)), " ".join(_end(reading, expected=False))
        text = f"{word}: {reading.state}/{reading.path}: wanted {wanted}, found {found}"
        line(Text(plain(f"{text}; log: {reading.log}"), style="bold red"), console)
    if not odd:
        console.print(Text(f"{len(outcome.readings)} servers, all as expected", style="bold green"))


def _witnesses(reading: ServerReading) -> str:
    """Who says what of a death: the Python line, the core dump, a trap, the log's last lines of decoding."""
    said = [f"surfaced {reading.surfaces} ({reading.reported})" if reading.surfaces else ""]
    said.append(f"the kernel that faulted is {reading.kernel}" if reading.kernel else "")
    said.append(f"a trap named {reading.named}" if reading.named else "")
    if reading.outcome != "finished" and reading.accept_log:
        running = reading.accept_log[-1][0]
        last = [length for at, length in reading.accept_log if at == running]
        mean = sum(last) / len(last)
        said.append(f"accept length in its log {mean:.2f} with {running} running ({len(last)} lines)")
    return "; ".join(filter(None, said))


def _end(reading: ServerReading, *, expected: bool) -> Iterator[str]:
    yield reading.expected if expected else reading.outcome
    if reading.surfaces_expected:
        yield reading.surfaces_expected if expected else reading.surfaces or "at no line"
    if reading.unheard:
        yield f"and {'a' if expected else 'no'} {reading.unheard} that names it"


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
