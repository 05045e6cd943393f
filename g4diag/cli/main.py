"""The `g4diag` console script: commands by folder listing, our errors as one line and an exit code."""

from __future__ import annotations

import atexit
import errno
import inspect
import io
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from g4diag import __version__
from g4diag.cli import contract
from g4diag.discover import Contribution, contributions
from g4diag.errors import GET_THE_STACK, CannotRunError, G4DiagError, UsageError
from g4diag.report.console import Color, choose
from g4diag.report.plain import plain
from g4diag.settings import Settings

# The base of what typer raises for a command line it cannot take: click's class, or typer's own copy of it.
_TyperError: type[Exception] = typer.BadParameter.__mro__[2]
MAX_COMPLAINT = 1000
INTERRUPTED = 130
_interrupts: list[int] = []
# What the extra `stack` brings. A missing one means that the command cannot run here, and is no defect of ours.
_STACK = frozenset({"flashinfer", "sgl_kernel", "sglang", "torch", "transformers", "triton"})
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """Console script entry: never returns."""
    if sys.argv[1:2] != ["serve"]:
        # A closed pipe ends us as it ends other tools (141), not with the 1 that would read as a defect. Not under
        # serve: a server must not lose its supervisor to `| head`.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # in the background it may be ignored
            signal.signal(signal.SIGINT, _interrupt)
    # A terminal that does not know a letter of a file's name gets its number; that is no error.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    contract.own_process = True
    code = run(sys.argv[1:])
    lost = _unwritten()
    if not lost and (code == INTERRUPTED or ("torch" in sys.modules and sys.argv[1:2] != ["serve"])):
        _leave_at_once(code)
    sys.exit(_complain(lost, CannotRunError.exit_code) if lost else code)


def _interrupt(number: int, frame: object) -> None:
    """As Python's own, and remembered: an import of torch's may swallow what is raised here, and then fail."""
    _interrupts.append(number)
    raise KeyboardInterrupt


def _leave_at_once(code: int) -> None:
    """What was opened is closed by now, threads are waited for and what was registered runs, as at any exit; taking
    torch and sglang down module by module takes seconds."""
    if code != INTERRUPTED:
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):  # what those printed
        if stream is not None:
            with suppress(OSError):
                stream.flush()
    os._exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code. G4DIAG_TRACEBACK=1 lets every exception through as it is."""
    show_traceback = False
    try:
        show_traceback = Settings.from_env().show_traceback
        code = build_app()(list(arguments) or ["--help"], prog_name="g4diag", standalone_mode=False)
        if not arguments:
            return UsageError.exit_code
        return code if isinstance(code, int) else 0
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except G4DiagError as error:
        if show_traceback:
            raise
        return _complain(str(error), error.exit_code)
    except _TyperError as error:
        return _complain(_usage(error), UsageError.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", INTERRUPTED)
    except Exception as error:
        if _interrupts:
            return INTERRUPTED
        if show_traceback:
            raise
        if isinstance(error, OSError) and (lost := _unwritten(error)):
            return _complain(lost, CannotRunError.exit_code)
        if isinstance(error, ModuleNotFoundError) and error.name in _STACK:
            return _complain(f"{error.name}: wanted one, found none; {GET_THE_STACK}", CannotRunError.exit_code)
        return _complain(f"internal error: {type(error).__name__}: {error} (G4DIAG_TRACEBACK=1 shows where)", 1)


def build_app() -> typer.Typer:
    """The Typer app with one command for each COMMAND under g4diag/cli/."""
    names = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(name="g4diag", context_settings=names, pretty_exceptions_enable=False)
    app.callback()(_root)
    for found in contributions("g4diag.cli", "COMMAND"):
        if found.error is None:
            app.command(found.value.name, help=_help(found.value.run))(found.value.run)
        else:
            app.command(found.name, help=f"Does not load: {found.error}")(_unloadable(found))
    return app


def _help(command: Callable[..., None]) -> str:
    """Its docstring, a line a paragraph: a terminal breaks it where it ends, and not where our source does too."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"g4diag {__version__}")
        raise typer.Exit


_VERSION = typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_say_version)


def _choose_color(wanted: Color) -> Color:
    choose(wanted)
    return wanted


_COLOR = typer.Option("--color", help="Colour reports: auto, always or never.", callback=_choose_color)


def _root(version: Annotated[bool, _VERSION] = False, color: Annotated[Color, _COLOR] = Color.auto) -> None:
    """Crash triage for the paged KV cache of SGLang, on any of its attention backends; made for Gemma-4 with MTP."""


def _unloadable(found: Contribution) -> Callable[[], None]:
    def refuse() -> None:
        raise CannotRunError(f"command {found.name} does not load: {found.error}")

    return refuse


def _usage(error: Any) -> str:
    """typer's own message on one line, and where the usage is."""
    context = getattr(error, "ctx", None)
    said = " ".join(error.format_message().split()).removesuffix(".")
    path = context.command_path if context else ""
    if said.startswith("No such option") and path.split()[-1:] in (["serve"], ["doctor"]):
        said += f"; sglang's own arguments come after --: {path} -- ARGUMENTS"
    return f"{said} (see {context.command_path if context else 'g4diag'} --help)"


def _unwritten(raised: OSError | None = None) -> str | None:
    """Flush stdout; what to say where that fails, or where `raised` tells of a full disk: an unbuffered stdout keeps
    nothing to flush. What is left goes nowhere, so that the interpreter does not complain once more as it ends."""
    found = raised if raised is not None and raised.errno in _NO_ROOM else None
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        return None
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        found = error
    return f"output cannot be written: {found.strerror}" if found else None


def _complain(text: str, code: int) -> int:
    said = plain(text)
    line = f"g4diag: {said if len(said) <= MAX_COMPLAINT else said[:MAX_COMPLAINT] + ' ...'}"
    # One line, for scripts; on a terminal broken between words.
    if sys.stderr is not None and sys.stderr.isatty():
        width = max(shutil.get_terminal_size().columns, 20)
        line = textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    print(line, file=sys.stderr)
    return code
