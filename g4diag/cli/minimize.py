"""`g4diag minimize FILE|SCENARIO`: the smallest case that breaks in the same way, as a pytest file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from g4diag.cli.contract import Command, file_name
from g4diag.errors import UsageError, unknown

if TYPE_CHECKING:
    from g4diag.model import Inspection


def minimize(
    subject: Annotated[str, typer.Argument(help="A dump, or a scenario of `repro --list`.", metavar="FILE|SCENARIO")],
    state: Annotated[str | None, typer.Option(help="SCENARIO: which; default the first that a trap names.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="SCENARIO: same seed, same case; default 0.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Stop the search after so long; --resume goes on.")] = 60,
    out: Annotated[Path | None, typer.Option(help="The pytest file; default ./test_g4_<scenario>.py.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an earlier run was ended.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON (schema g4diag.minimize) in place of text.")] = False,
) -> None:
    """Shrink requests, steps and pools while the same trap names the same thing; sglang's own classes, on the CPU.

    Exit 0 a case and its test, 2 usage, 3 no such sglang or a scenario without sizes, 4 no signature or no state that
    has it, 5 an unsafe FILE, 130 interrupted: the best so far is written.
    """
    from g4diag.minimize.case import running, served
    from g4diag.minimize.reduce import reduce
    from g4diag.minimize.target import of_dump, of_scenario
    from g4diag.scenario.catalogue import scenarios

    dump = None
    if subject in scenarios():
        served(subject).selected((state,) if state else ())
    elif state is not None or seed is not None:
        raise UsageError(f"--state and --seed are for a scenario; found {subject!r}")
    else:
        dump = _read(subject, list(scenarios()))
    with _progress() as say, running() as run:
        say("looking for what breaks", False)
        target = of_scenario(subject, state, seed or 0, run) if dump is None else of_dump(dump, run)
        place = out or Path(f"test_g4_{target.scenario.replace('-', '_')}.py")
        found = reduce(target, run, out=place, seconds=seconds, resume=resume, say=say)
    if json:
        from g4diag.report.minimize_json import render as render_json

        typer.echo(render_json(found))
    else:
        from g4diag.report.console import console
        from g4diag.report.minimize_text import render

        render(found, console(160))
    raise typer.Exit(found.exit_code)


def _read(subject: str, known: list[str]) -> Inspection:
    from g4diag.sandbox import inspect_files

    path = file_name(subject)
    if not path.exists():
        raise unknown("file or scenario", subject, known)
    return inspect_files([path])


@contextmanager
def _progress() -> Iterator[Callable[[str, bool], None]]:
    """One live line on a terminal's stderr; elsewhere a line for each smaller case, and none for other candidates."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text, smaller: print(text, file=sys.stderr, flush=True) if smaller else None
        return
    with console.status("loading sglang") as status:
        yield lambda text, smaller: status.update(text)


COMMAND = Command("minimize", minimize)
