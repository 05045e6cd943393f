"""`g4diag report FILE...`: the inspection as the text of an issue."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from g4diag.cli.contract import Command, file_name
from g4diag.errors import UsageError, VacuousError


def report(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Logs, dumps, core dumps, rings, post-mortems, or folders of them; - is standard input.",
            metavar="FILE...",
            parser=file_name,
        ),
    ],
    markdown: Annotated[bool, typer.Option("--md", help="As Markdown; the default, and so far the only form.")] = True,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Write it here, in place of the screen.", metavar="PATH", parser=file_name),
    ] = None,
) -> None:
    """Fill in what SGLang's bug template asks: description, reproduction, environment. Paste it, then add the rest.

    Exit 1 defect found, 2 no such file or --out would overwrite one, 4 nothing to report or to judge, or a crash whose
    cause is not told, 5 corrupt, truncated, not ours or unsafe.
    """
    from g4diag.model import Outcome
    from g4diag.report.markdown import render
    from g4diag.report.plain import plain
    from g4diag.report.save import refuse_to_overwrite, save
    from g4diag.sandbox import inspect_files

    for path in files:
        if path.suffix == ".md" and not path.exists():
            raise UsageError(f"{path}: no such file to read; to write the report there: -o {path}")
    replaced = refuse_to_overwrite(out, "Markdown", files) if out is not None else ""
    inspection = inspect_files(files)
    if inspection.outcome is Outcome.HEALTHY:
        raise VacuousError(
            f"{inspection.name}: nothing to report, no report made: all of it was judged and nothing is broken; give"
            " the log of the server that died, or its dump folder (g4diag serve --coredump --traps all)"
        )
    text = render(inspection)
    if out is None:
        typer.echo(text, nl=False)
    else:
        save(text, out)
        print(f"g4diag: report written to {plain(str(out))}{replaced}", file=sys.stderr)
    raise typer.Exit(inspection.outcome.exit_code)


COMMAND = Command("report", report)
