"""`g4diag patches [list|show NAME|verify [NAME...]]`: the series against the installed stack."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from g4diag.cli.contract import Command, completing
from g4diag.errors import UsageError, unknown

if TYPE_CHECKING:
    from rich.console import Console


_NAMES = completing("g4diag.patches", "PATCH")


class Action(StrEnum):
    """What to do with the series."""

    LIST = "list"
    SHOW = "show"
    VERIFY = "verify"


def patches(
    action: Annotated[Action, typer.Argument(help="list, show NAME, or verify [NAME...].")] = Action.LIST,
    names: Annotated[
        list[str] | None, typer.Argument(help="Patches; verify takes every cure without.", autocompletion=_NAMES)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON (schema g4diag.patches) in place of text.")] = False,
) -> None:
    """The patch series: status on the installed sglang, why, reference, what each would change. FAULTS put a bug back.

    Exit 0 fine, 1 a patch file is broken or not verified, 2 usage, 3 verify without sglang.
    """
    raise typer.Exit(_verify(names or [], json) if action is Action.VERIFY else _rows(action, names or [], json))


def _rows(action: Action, names: list[str], json: bool) -> int:
    from g4diag.doctor.series import patch_rows
    from g4diag.hooks.versions import version_of
    from g4diag.report import patches_json, patches_text

    rows = patch_rows()
    if action is Action.SHOW:
        if not names:
            raise UsageError("show: wanted a NAME, found none; `g4diag patches` lists them")
        if len(names) != 1 or not (chosen := [row for row in rows if row.name in names]):
            raise unknown("patch", " ".join(names), [row.name for row in rows])
        rows = tuple(chosen)
    elif names:
        raise UsageError(f"list: wanted no name, found {' '.join(names)!r}; show takes one")
    code = int(any(row.state == "broken" for row in rows))
    if json:
        typer.echo(patches_json.render(patches_json.document(rows, version_of("sglang"), code)))
    elif action is Action.SHOW:
        patches_text.render_one(rows[0], _console())
    else:
        patches_text.render(rows, _console())
    return code


def _verify(names: list[str], json: bool) -> int:
    from g4diag.doctor.series import skipped, verify_here
    from g4diag.hooks.versions import version_of
    from g4diag.report import patches_json, patches_text

    rows, left_out = verify_here(names), skipped(names)
    code = int(not all(row.verified for row in rows))
    if json:
        typer.echo(patches_json.render(patches_json.verify_document(rows, left_out, version_of("sglang"), code)))
    else:
        patches_text.render_verified(rows, left_out, _console())
    return code


def _console() -> Console:
    from g4diag.report.console import console

    return console(120)


COMMAND = Command("patches", patches)
