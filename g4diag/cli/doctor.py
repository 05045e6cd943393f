"""`g4diag doctor [-- SGLANG ARGUMENTS]`: can a server run here, armed, and is anything about it known to be bad.

With --selftest: does each trap fire when its invariant is broken, and not otherwise. With --sglang-version: what is
known to be bad about a command line on a release that is not installed here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from g4diag.cli.contract import Command, waiting
from g4diag.cli.log_arguments import named_log
from g4diag.errors import UsageError


def doctor(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="sglang's, after --; or a LOG that holds them, and after -- what it lacks.",
            metavar="[LOG] [-- SGLANG...]",
        ),
    ] = None,
    selftest: Annotated[bool, typer.Option("--selftest", help="Break each trap's invariant once, on the CPU.")] = False,
    sglang_version: Annotated[
        str, typer.Option(help="Judge the arguments for this release, which need not be installed.", metavar="RELEASE")
    ] = "",
    gpu: Annotated[str, typer.Option(help="With --sglang-version: the server's GPU, such as sm90.", metavar="SM")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON (g4diag.doctor or -release).")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="The long tables too: attention backends, patches, traps.")
    ] = False,
) -> None:
    """Versions, GPU, backends, plugin, patches and traps; with a command line of sglang's, what is bad about it.

    With a log in place of the command line: what is bad about the server_args that stand in it.

    Exit 0 healthy; 1 known to be bad: a combination, a known bug that the flags meet, a plugin that would not load;
    2 usage; 3 no sglang, or a version that is not known; 4 something could not be judged (the first lines say what to
    give), or is known to be bad if the models are what their names say.

    With --selftest: 0 each trap fired, and alone; 1 one did not, or a wrong one did.
    """
    if verbose and (json or selftest or sglang_version):
        raise UsageError("-v goes with none of --json, --selftest and --sglang-version: it would be ignored")
    if not selftest and (log := named_log(arguments or ())) is not None:
        _of_log(log, tuple(arguments or ())[1:], sglang_version, gpu, json)
    if gpu and not sglang_version:
        raise UsageError("--gpu goes with --sglang-version: wanted both, found --gpu alone")
    if sglang_version:
        if selftest:
            raise UsageError("wanted --selftest or --sglang-version, found both")
        _release(sglang_version, tuple(arguments or ()), gpu, json)
    if selftest:
        if arguments:
            raise UsageError("wanted --selftest or sglang's arguments, found both")
        _selftest(json)
    from g4diag.doctor.examine import examine

    with waiting("asking sglang's own parser" if arguments else "looking at the installed packages"):
        checkup = examine(tuple(arguments or ()))
    if json:
        from g4diag.report.doctor_json import render as render_json

        typer.echo(render_json(checkup))
    else:
        from g4diag.report.console import console
        from g4diag.report.doctor_text import render

        render(checkup, console(120), verbose)
    raise typer.Exit(checkup.exit_code)


def _of_log(log: Path, further: tuple[str, ...], version: str, gpu: str, json: bool) -> NoReturn:
    """A log's own server_args and further ones, for the release that it names; else for the one given, else for the
    newest known."""
    from g4diag.cli.log_arguments import read_arguments
    from g4diag.matrix.cells import matrix

    found = read_arguments(log)
    known_by = "as named" if version else "as the log tells"
    release = version or found.release
    if not release:
        release = matrix().releases[-1]
        known_by = "ASSUMED, the newest on file: the log tells none; --sglang-version names another"
    issue = (found.issue, found.is_matched)
    _release(release, (*found.arguments, *further), gpu or found.gpu, json, known_by, issue)


def _release(
    version: str,
    arguments: tuple[str, ...],
    gpu: str,
    json: bool,
    of_log: str = "",
    issue: tuple[str, bool] = ("", False),
) -> NoReturn:
    from g4diag.doctor.elsewhere import check_release, log_issue

    found = replace(check_release(version, arguments, gpu, of_log), log_issue=log_issue(*issue, version))
    if json:
        from g4diag.report.release_check_json import render as render_json

        typer.echo(render_json(found))
    else:
        from g4diag.report.console import console
        from g4diag.report.release_check_text import render

        render(found, console(120))
    raise typer.Exit(found.exit_code)


def _selftest(json: bool) -> NoReturn:
    from g4diag.doctor.selftest import selftest

    with waiting("breaking each trap's invariant on sglang's own classes"):
        found = selftest()
    if json:
        from g4diag.report.selftest_json import render as render_json

        typer.echo(render_json(found))
    else:
        from g4diag.report.console import console
        from g4diag.report.selftest_text import render

        render(found, console(200))
    raise typer.Exit(found.exit_code)


COMMAND = Command("doctor", doctor)
