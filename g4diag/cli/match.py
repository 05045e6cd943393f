"""`g4diag match FILE...`: the crash signature and the known issues it matches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from g4diag.cli.contract import Command, file_name


def match(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Logs, dumps, core dumps, rings, post-mortems, or folders of them; - is standard input.",
            metavar="FILE...",
            parser=file_name,
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON (schema g4diag.match) in place of text.")] = False,
) -> None:
    """Name the crash: its signature, the same whatever the run and the machine, and the known issues it matches.

    Exit 0 matched, 1 a defect in any file that matches none, 2 no such file, 4 nothing to match, a mere
    possibility, or one of several files could not be read, 5 corrupt, not ours or unsafe.
    """
    from g4diag.report import match_json, match_text
    from g4diag.sandbox import inspect_files

    inspection = inspect_files(files)
    if json:
        typer.echo(match_json.render(inspection))
    else:
        from g4diag.report.console import console
        from g4diag.report.lines import page

        page(match_text.render(inspection), console())
    raise typer.Exit(match_json.exit_code(inspection))


COMMAND = Command("match", match)
