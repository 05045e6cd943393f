"""`g4diag doctor [-- SGLANG ARGUMENTS]`: can a server run here, armed, and is anything about it known to be bad."""

from __future__ import annotations

from typing import Annotated

import typer

from g4diag.cli.contract import Command


def doctor(
    arguments: Annotated[list[str] | None, typer.Argument(help="sglang's, after --.", metavar="[-- SGLANG...]")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON (schema g4diag.doctor) in place of text.")] = False,
) -> None:
    """Versions, GPU, backends, plugin, patches and traps; with a command line of sglang's, what is bad about it.

    Exit 0 healthy, 1 a known-bad combination or a plugin that would not load, 2 usage, 3 no sglang or another version.
    """
    from g4diag.stack.examine import examine

    checkup = examine(tuple(arguments or ()))
    if json:
        from g4diag.report.doctor_json import render as render_json

        typer.echo(render_json(checkup))
    else:
        from rich.console import Console

        from g4diag.report.doctor_text import render

        console = Console()
        render(checkup, console if console.is_terminal else Console(width=200))
    raise typer.Exit(checkup.exit_code)


COMMAND = Command("doctor", doctor)
