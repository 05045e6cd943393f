"""Shared by the forms of `swa-ratio-moe` where the default is 0.8 itself: whether the user gave a ratio.

Until 0.5.19 a ServerArgs that says 0.8 does not say whether anybody asked for it. So it is noted when one is made: from
the command line (either spelling, an abbreviation that argparse takes, or the file of `--config`), from keywords of
Engine or ServerArgs, or by G4DIAG_EXPLICIT_FLAGS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from importlib import import_module
from typing import Any

from g4diag.hooks.anchors import has_module
from g4diag.hooks.install import Hook
from g4diag.settings import Settings

MODULE = "sglang.srt.server_args"
FIELD, FLAG = "swa_full_tokens_ratio", "--swa-full-tokens-ratio"
_MARK = "_g4diag_ratio_given"
_CONFIG_PARSERS = ("sglang.srt.server_args_config_parser", "sglang.srt.utils.server_args_config_parser")

# The command line that a ServerArgs is being made from, None when it is made from keywords; and what came of it.
_argv: ContextVar[Sequence[str] | None] = ContextVar("argv", default=None)


def given(server_args: Any) -> bool:
    """Whether whoever made it gave a ratio. Resolution may come long after, so the note is on the object."""
    return bool(vars(server_args).get(_MARK))


def named_by_serve() -> bool:
    """Whether `g4diag serve`, which saw the command line, says that the flag is on it."""
    return FLAG.lstrip("-") in (Settings.from_env().explicit_flags or ())


def noting() -> tuple[Hook, ...]:
    """Three hooks that see what the user gave."""
    return (
        Hook(f"{MODULE}.ServerArgs.__init__", "around", constructed),
        Hook(f"{MODULE}.ServerArgs.from_cli_args", "around", from_command_line),
        Hook(f"{MODULE}.prepare_server_args", "around", parsed),
    )


def parsed(original: Callable[..., Any], argv: Sequence[str]) -> Any:
    """Around prepare_server_args, which need not be given sys.argv."""
    with _set(_argv, argv):
        return original(argv)


def from_command_line(original: Callable[..., Any], cls: Any, args: Any) -> Any:
    """Around ServerArgs.from_cli_args, which passes every field on and so hides which of them were typed."""
    with _set(_argv, sys.argv[1:] if _argv.get() is None else _argv.get()):
        return original(cls, args)


def constructed(original: Callable[..., None], server_args: Any, *args: Any, **kwargs: Any) -> None:
    """Around ServerArgs.__init__, inside which the adjustments run until 0.5.18."""
    argv = _argv.get()
    names = {*kwargs, *(field.name for field in fields(server_args)[: len(args)])}
    if (FIELD in names if argv is None else _typed(argv)) or named_by_serve():
        setattr(server_args, _MARK, True)
    original(server_args, *args, **kwargs)


def _typed(argv: Sequence[str]) -> bool:
    if "--config" in argv:
        parser = import_module(next(filter(has_module, _CONFIG_PARSERS)))
        argv = parser.ConfigArgumentMerger().merge_config_with_args(list(argv))
    names = (word.partition("=")[0] for word in argv if word.startswith("--"))
    # argparse takes any unambiguous beginning; an ambiguous one never gets here.
    return any(len(name) > 2 and FLAG.startswith(name) for name in names)


@contextmanager
def _set(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
