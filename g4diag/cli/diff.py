"""`g4diag diff A B`: where two dumps diverge first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from g4diag.cli.contract import Command, file_name


def diff(
    first: Annotated[Path, typer.Argument(help="A dump.", metavar="A", parser=file_name)],
    second: Annotated[Path, typer.Argument(help="Another, of the same kind.", metavar="B", parser=file_name)],
    json: Annotated[bool, typer.Option("--json", help="Print JSON (schema g4diag.diff) in place of text.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Write one HTML file too, which opens offline.", metavar="PATH", parser=file_name),
    ] = None,
) -> None:
    """Lay two dumps side by side, step by step and layer by layer, and say where they part and which side is wrong.

    Exit 0 same, 1 they differ, 2 no such file, 4 not comparable, 5 corrupt, not ours or unsafe.
    """
    from g4diag.report import diff_json, diff_text
    from g4diag.report.html.comparison import render as render_html
    from g4diag.report.plain import plain
    from g4diag.report.save import refuse_to_overwrite, save
    from g4diag.sandbox import diff_files

    replaced = refuse_to_overwrite(html, "HTML", (first, second)) if html is not None else ""
    comparison = diff_files((first, second))
    if html is not None:
        save(render_html(comparison), html)
        print(f"g4diag: page written to {plain(str(html))}{replaced}", file=sys.stderr)
    if json:
        typer.echo(diff_json.render(comparison))
    else:
        from g4diag.report.console import console
        from g4diag.report.lines import page

        page(diff_text.render(comparison), console())
    raise typer.Exit(comparison.likeness.exit_code)


COMMAND = Command("diff", diff)
