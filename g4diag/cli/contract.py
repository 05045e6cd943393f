"""What every command file declares: one upper-case COMMAND."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """name: as typed. run: a Typer function; its signature is the usage and its docstring the help. It leaves by
    returning (0), `raise typer.Exit(code)`, or an error of ours. Heavy imports belong inside it."""

    name: str
    run: Callable[..., None]
