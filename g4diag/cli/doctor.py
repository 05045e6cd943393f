"""`g4diag doctor [-- SGLANG ARGUMENTS]`: can a server run here, armed, and is anything about it known to be bad.

With --selftest: does each trap wake when its invariant is broken, and sleep otherwise. With --sglang-version: what is
known to be bad about a command line on a release that is not installed here.
"""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from g4diag.cli.contract import Command
from g4diag.errors import UsageError


def doctor(
    arguments: Annotated[list[str] | None, typer.Argument(help="sglang's, after --.", metavar="[-- SGLANG...]")] = None,
    selftest: Annotated[bool, typer.Option("--selftest", help="Break each trap's invariant once, on the CPU.")] = False,
    sglang_version: Annotated[
        str, typer.Option(help="Judge the arguments for this release, which need not be installed.", metavar="RELEASE")
    ] = "",
    gpu: Annotated[str, typer.Option(help="With --sglang-version: the server's GPU, such as sm90.", metavar="SM")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON (g4diag.doctor or -release).")] = False,
) -> None:
    """Versions, GPU, backends, plugin, patches and traps; with a command line of sglang's, what is bad about it.

    Exit 0 healthy, 1 a known-bad combination or a plugin that would not load, 2 usage, 3 no sglang or another version.
    With --selftest: 0 each trap woke, and alone; 1 one slept or a wrong one woke. With --sglang-version: 0 no hazard,
    1 one, 2 no version or no arguments, 3 a release that is not known here; nothing installed here is looked at.
    """
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

    checkup = examine(tuple(arguments or ()))
    if json:
        from g4diag.report.doctor_json import render as render_json

        typer.echo(render_json(checkup))
    else:
        from g4diag.report.console import console
        from g4diag.report.doctor_text import render

        render(checkup, console(120))
    raise typer.Exit(checkup.exit_code)


def _release(version: str, arguments: tuple[str, ...], gpu: str, json: bool) -> NoReturn:
    from g4diag.doctor.elsewhere import check_release

    found = check_release(version, arguments, gpu)
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
