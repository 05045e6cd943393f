"""`g4diag inspect FILE...`: re-judge dumps with today's traps, each read in a process that can do no harm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from g4diag.cli.contract import Command, file_name
from g4diag.errors import UsageError


def inspect(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Logs, dumps, core dumps, rings, post-mortems, or folders of them; - is standard input.",
            metavar="FILE...",
            parser=file_name,
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON (schema g4diag.inspect) in place of text.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="All of it: pools, layers, entries, timeline, claims.")
    ] = False,
    short: Annotated[bool, typer.Option("--short", help="One line a file: first word, name, what it is.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Write one HTML file too, which opens offline.", metavar="PATH", parser=file_name),
    ] = None,
) -> None:
    """What broke, where and whose fault, from a log, a dump, a folder or a core dump. Nothing in a file is executed.

    The first word is the verdict: ERROR, LIKELY, LEAK or HARDWARE exit 1, HEALTHY 0, CRASH or INCONCLUSIVE 4. Exit 2
    no such file or --html would overwrite one, 5 corrupt, truncated, not ours or unsafe.
    """
    from g4diag.report.first_screen import short_rows
    from g4diag.report.plain import plain
    from g4diag.report.save import refuse_to_overwrite, save
    from g4diag.sandbox import inspect_files

    if json + short + verbose > 1:
        raise UsageError("wanted one of --json, --short and -v, found more")
    replaced = refuse_to_overwrite(html, "HTML", files) if html is not None else ""
    inspection = inspect_files(files)
    if html is not None:
        from g4diag.report.html import render as render_html

        save(render_html(inspection), html)
    if json:
        from g4diag.report.json import render as render_json

        typer.echo(render_json(inspection))
    elif short:
        from g4diag.report.console import console
        from g4diag.report.lines import page

        screen = console(whole=True)
        between = "  " if screen.is_terminal else "\t"
        page("\n".join(between.join(map(plain, row)) for row in short_rows(inspection)), screen)
    else:
        from g4diag.report.console import console
        from g4diag.report.text import render

        render(inspection, console(), verbose)
    if html is not None:
        sys.stdout.flush()
        print(f"g4diag: page written to {plain(str(html))}{replaced}", file=sys.stderr)
    raise typer.Exit(inspection.outcome.exit_code)


COMMAND = Command("inspect", inspect)
