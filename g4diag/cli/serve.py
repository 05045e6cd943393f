"""`g4diag serve [--patches ...] [--traps ...] -- SGLANG ARGUMENTS`: the real server, armed in every process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from g4diag.cli.contract import Command


def serve(
    arguments: Annotated[list[str] | None, typer.Argument(help="sglang's, after --.", metavar="-- SGLANG...")] = None,
    patches: Annotated[str | None, typer.Option(help="all, none or name,name; faults by name only.")] = None,
    traps: Annotated[str | None, typer.Option(help="all, none or name,name; default G4DIAG_TRAPS, else none.")] = None,
    dump_dir: Annotated[
        Path | None, typer.Option(help="For dumps, rings and the log; default G4DIAG_DUMP_DIR, else g4diag-dumps.")
    ] = None,
    coredump: Annotated[
        bool, typer.Option("--coredump", help="CUDA core dump of an exception, without memory.")
    ] = False,
    require: Annotated[
        str | None,
        typer.Option(help="Traps without which not to start: all or name,name."),
    ] = None,
    despite: Annotated[list[str] | None, typer.Option(help="Start in spite of this hazard; may be repeated.")] = None,
) -> None:
    """Run `python -m sglang.launch_server` with the plugin armed in every process; signals go to it.

    With traps armed the flight recorder is on (G4DIAG_RECORDER=off: not). A server that dies leaves a post-mortem
    in the dump directory; its log is kept there too with traps, the recorder, --coredump or --dump-dir.

    Exit: the server's (128+n if signal n killed it); 1 a process of it could not be armed; 2 usage, a dump
    directory that cannot be written, or a combination known to fail; 3 no sglang, no usable GPU, a patch or a
    required trap that does not fit, or no trap that does: the server is then not started.
    """
    from g4diag.serve.plan import Asked, plan
    from g4diag.serve.supervise import run

    asked = Asked(tuple(arguments or ()), patches, traps, dump_dir, tuple(despite or ()), coredump, require)
    raise typer.Exit(run(plan(asked), _say))


def _say(text: str) -> None:
    from g4diag.report.plain import plain

    typer.echo(f"g4diag serve: {plain(text)}", err=True)


COMMAND = Command("serve", serve)
