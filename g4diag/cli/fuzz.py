"""`g4diag fuzz [MACHINE...]`: property fuzzing of the installed sglang's own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from g4diag import settings
from g4diag.cli.contract import Command
from g4diag.errors import GET_FUZZ, CannotRunError, UsageError


def fuzz(
    machines: Annotated[list[str] | None, typer.Argument(help="Names from --list; all without.")] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the machines and leave.")] = False,
    minutes: Annotated[float | None, typer.Option(help="For all machines together.")] = None,
    examples: Annotated[int | None, typer.Option(help="Examples of each machine.")] = None,
    profile: Annotated[str, typer.Option(help="dev, ci or nightly: examples, and whether finds are kept.")] = "dev",
    seed: Annotated[
        int, typer.Option(min=0, help="Same seed, same examples, unless earlier finds are tried first.")
    ] = 0,
    fault: Annotated[list[str] | None, typer.Option(help="Put this bug back first; may be repeated.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes, each with a seed of its own.")] = 1,
    db: Annotated[str | None, typer.Option(help="Directory of finds; default .hypothesis, or G4DIAG_FUZZ_DB.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON (schema g4diag.fuzz) in place of text.")] = False,
    dump_dir: Annotated[
        Path | None, typer.Option(help="For a failure's dump and test; default G4DIAG_DUMP_DIR, else g4diag-dumps.")
    ] = None,
) -> None:
    """Drive the real allocators and caches with random programs; the traps and a small model are the judges.

    Exit 0 clean, 1 a claim broke (shrunk program, dump, pytest file), 2 usage, 3 no sglang or hypothesis, 4 vacuous.
    """
    _require_hypothesis()
    if list_them:
        _list()
        return
    if minutes is not None and examples is not None:
        raise UsageError("wanted --minutes or --examples, found both")
    from g4diag.fuzz import profiles
    from g4diag.fuzz.jobs import Plan, campaign

    chosen = profiles.profile(profile)
    # A bug put back on purpose is not a find to keep, unless somebody says where.
    if db is not None and not chosen.keeps:
        raise UsageError(f"profile {profile} keeps no finds: --db would be ignored")
    place = profiles.place(db, "" if fault else profiles.DEFAULT_PLACE) if chosen.keeps else ""
    plan = Plan(
        machines=tuple(machines or ()),
        examples=chosen.examples if minutes is None and examples is None else examples,
        minutes=1.0 if minutes is None else minutes,
        seed=seed,
        faults=tuple(fault or ()),
        jobs=jobs,
        keep=profiles.Keep(place),
        dump_dir=settings.require_writable(settings.dump_dir(dump_dir)),
    )
    found = campaign(plan, lambda line: typer.echo(line, err=True))
    if json:
        from g4diag.report.fuzz_json import render as render_json

        typer.echo(render_json(found))
    else:
        from g4diag.report.console import console
        from g4diag.report.fuzz_text import render

        render(found, console(160))
    raise typer.Exit(found.exit_code)


def _list() -> None:
    from g4diag.fuzz.replay import machines

    for machine in machines().values():
        typer.echo(f"{machine.name}\t{machine.subject}")


def _require_hypothesis() -> None:
    try:
        import hypothesis  # noqa: F401
    except ImportError as error:
        raise CannotRunError(f"hypothesis: wanted one, found none; {GET_FUZZ}") from error


COMMAND = Command("fuzz", fuzz)
