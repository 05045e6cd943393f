"""`g4diag diff A B`: where two dumps diverge first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from g4diag.cli.contract import Command, file_name


def diff(
    first: Annotated[Path, typer.Argument(help="A dump.", metavar="A", parser=file_name)],
    second: Annotated[Path, typer.Argument(help="Another, of the same kind.", metavar="B", parser=file_name)],
    json: Annotated[bool, typer.Option("--json", help="Print JSON (schema g4diag.diff) in place of text.")] = False,
) -> None:
    """Lay two dumps side by side, step by step and layer by layer, and say where they part and which side is wrong.

    Exit 0 same, 1 they differ, 2 no such file, 4 not comparable, 5 corrupt, not ours or unsafe.
    """
    from g4diag.report import diff_json, diff_text
    from g4diag.sandbox import diff_files

    comparison = diff_files((first, second))
    typer.echo(diff_json.render(comparison) if json else diff_text.render(comparison))
    raise typer.Exit(comparison.likeness.exit_code)


COMMAND = Command("diff", diff)
