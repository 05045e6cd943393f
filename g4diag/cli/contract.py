"""What every command file declares: one upper-case COMMAND; and how it reads a file name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from g4diag.discover import contributions
from g4diag.errors import UsageError

# Whether this process is one command's and ends with it: `main` says so. What is called from elsewhere is a guest.
own_process = False


@dataclass(frozen=True)
class Command:
    """name: as typed. run: a Typer function; its signature is the usage and its docstring the help. It leaves by
    returning (0), `raise typer.Exit(code)`, or an error of ours. Heavy imports belong inside it."""

    name: str
    run: Callable[..., None]


def file_name(text: str | Path) -> Path:
    """A typer `parser` for paths. UsageError for an empty one, which `Path` would take for the current folder."""
    if not str(text):
        raise UsageError("empty file name")
    return Path(text)


@contextmanager
def waiting(doing: str) -> Iterator[None]:
    """On a terminal, that something takes its time, from the first moment on; nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(doing):
        yield


def completing(package: str, constant: str) -> Callable[[str], list[str]]:
    """For a shell that completes: the names that files of a package declare, and that begin as what is typed does."""

    def begun(incomplete: str) -> list[str]:
        rows = contributions(package, constant)
        return [row.value.name for row in rows if row.error is None and row.value.name.startswith(incomplete)]

    return begun
