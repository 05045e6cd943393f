"""`g4diag inspect FILE`: re-judge a dump with today's traps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from g4diag.cli.contract import Command


def inspect(
    file: Annotated[Path, typer.Argument(help="A dump, ring or post-mortem, or the seed's dump.", metavar="FILE")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON (schema g4diag.inspect) in place of text.")] = False,
) -> None:
    """Judge a dump again with today's traps and say what went wrong. Nothing in the file is executed.

    Exit 0 clean, 1 defect found, 2 no such file, 4 nothing to judge, 5 corrupt, truncated, not ours or unsafe.
    """
    from g4diag.analyzers import inspect_file

    inspection = inspect_file(file)
    if json:
        from g4diag.report.json import render as render_json

        typer.echo(render_json(inspection))
    else:
        from rich.console import Console

        from g4diag.report.text import render

        console = Console()
        render(inspection, console if console.is_terminal else Console(width=160))
    raise typer.Exit(inspection.outcome.exit_code)


COMMAND = Command("inspect", inspect)
