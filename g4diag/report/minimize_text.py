"""A minimisation as text: what is kept, sizes before and after, what it took, and the test to run."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from g4diag.model.reduction import Reduction
from g4diag.report.lines import line
from g4diag.report.plain import plain

_ROWS = {
    "requests": "requests",
    "live": "requests decoding together",
    "prompt": "prompt, tokens",
    "chunk": "chunked prefill, tokens",
    "window": "sliding window, tokens",
    "page_size": "page, tokens",
    "full_tokens": "full pool, tokens",
    "ratio": "SWA tokens a full token",
    "steps_per_admission": "steps between two requests",
    "draft_steps": "draft steps",
}


def render(found: Reduction, console: Console) -> None:
    """Print the whole report to `console`."""
    target = found.target
    console.print(Text(f"g4diag minimize {target.scenario}, state {target.state}, seed {target.seed}", style="bold"))
    versions = " ".join(f"{name} {version or 'none'}" for name, version in found.versions.items())
    line(Text(plain(versions), style="dim"), console)
    if target.faults:
        put_back = ", ".join(target.faults)
        console.print(Text(f"fault states re-introduced: {put_back}; sglang as released has none of them", "yellow"))
    line(Text(f"signature {target.signature}"), console)
    console.print(_table(found))
    for said in _lines(found):
        line(Text(plain(said)), console)


def _table(found: Reduction) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("size")
    table.add_column(f"before ({plain(found.target.source)}'s)", justify="right")
    table.add_column("after", justify="right")
    for name, text in _ROWS.items():
        before, after = found.before[name], found.after[name]
        table.add_row(text, f"{before:g}", Text(f"{after:g}", style="bold" if after != before else "dim"))
    return table


def _lines(found: Reduction) -> list[str]:
    target, sound, place = found.target, found.sound, found.test
    earlier = f", {found.known} known from an earlier run" if found.known else ""
    lines = [
        f"{found.tried} candidates run{earlier}; {found.smaller} steps down in {found.seconds:.1f} s",
        f"{target.state}: {found.broken.line}",
        f"{target.healthy}: silent; {sound.checked} page-table entries checked, {sound.divergent} differ by space",
        f"test: {place}   next: pytest {place}",
    ]
    if found.stopped:
        lines.insert(1, f"{found.stopped}: a smaller case may be there; --resume goes on ({found.state_file})")
    return lines
