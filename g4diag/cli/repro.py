"""`g4diag repro SCENARIO`: make a bug happen on the real stack, and hold every cure against the truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from g4diag.cli.contract import Command
from g4diag.errors import UsageError

if TYPE_CHECKING:
    from g4diag.scenario import Progress, Scenario


def repro(
    scenario: Annotated[str | None, typer.Argument(help="A name from --list.", metavar="SCENARIO")] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the scenarios and leave.")] = False,
    state: Annotated[list[str] | None, typer.Option(help="Run only this state; may be given again.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON (schema g4diag.repro) in place of text.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same output.")] = 0,
    requests: Annotated[int | None, typer.Option(help="Requests served.")] = None,
    page_size: Annotated[int | None, typer.Option(help="Tokens a page: 16, 32 or 64.")] = None,
    ratio: Annotated[float | None, typer.Option(help="SWA tokens a full token, as --swa-full-tokens-ratio.")] = None,
    window: Annotated[int | None, typer.Option(help="Sliding window, tokens.")] = None,
    chunk: Annotated[int | None, typer.Option(help="Chunked prefill size, tokens; 0 for unchunked.")] = None,
    dump_dir: Annotated[Path | None, typer.Option(help="Where the dump goes; default g4diag-dumps.")] = None,
) -> None:
    """Run a scenario on the installed sglang, without a GPU.

    Exit 0 every state as expected, 1 one was not, 2 usage, 3 sglang missing or another version, 4 vacuous.
    """
    from g4diag.scenario import Options

    known = _scenarios()
    if list_them:
        for found in known.values():
            typer.echo(f"{found.name}\t{', '.join(found.needs)}\t{found.symptom}")
        return
    if scenario not in known:
        raise UsageError(f"unknown scenario {scenario!r}; known: {', '.join(known)}" if scenario else "which SCENARIO?")
    options = Options(seed, tuple(state or ()), requests, page_size, ratio, window, chunk, dump_dir)
    known[scenario].selected(options.states)
    with _progress() as progress:
        outcome = known[scenario].run(options, progress)
    if json:
        from g4diag.report.repro_json import render as render_json

        typer.echo(render_json(outcome))
    else:
        from rich.console import Console

        from g4diag.report.repro_text import render

        console = Console()
        render(outcome, console if console.is_terminal else Console(width=170))
    raise typer.Exit(0 if outcome.as_expected else 1)


def _scenarios() -> dict[str, Scenario]:
    from g4diag.discover import contributions

    rows = contributions("repro", "SCENARIO")
    return {row.value.name: row.value for row in rows if row.error is None}


@contextmanager
def _progress() -> Iterator[Progress]:
    """One live line on a terminal's stderr; nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text, done, total: None
        return
    with console.status("loading sglang") as status:
        yield lambda text, done, total: status.update(f"[{done + 1}/{total}] {text}")


COMMAND = Command("repro", repro)
