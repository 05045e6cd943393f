"""The doors by which a process enters sglang: its plugins, its command line, its server and its engine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from g4diag.hooks.anchors import has_module
from g4diag.stack.releases import chosen

SERVER = "sglang.launch_server"  # python -m
SERVER_ARGS = "sglang.srt.server_args"  # whose text declares the flags
_CONFIG_PARSERS = ("sglang.srt.server_args_config_parser", "sglang.srt.utils.server_args_config_parser")
ARGUMENT_FIELDS = ("sglang.srt.arg_groups.fields",)  # since 0.5.20, each file in it too


def load_plugins() -> None:
    """As every process of a server does first."""
    from sglang.srt.plugins import load_plugins

    load_plugins()


def with_flags(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """Declare sglang's flags on `parser`, those of plugins included; the arguments, with a --config file's merged in
    as `prepare_server_args` does it."""
    from sglang.srt.server_args import ServerArgs

    load_plugins()
    ServerArgs.add_cli_args(parser)
    if "--config" not in arguments:
        return list(arguments)
    merger = import_module(next(filter(has_module, _CONFIG_PARSERS))).ConfigArgumentMerger(parser)
    return list(merger.merge_config_with_args(list(arguments)))


def imported() -> None:
    """Import what `engine` needs: most of the seconds before a server starts."""
    import sglang.srt.entrypoints.engine  # noqa: F401


def engine(**arguments: Any) -> Any:
    """sglang's Engine: a whole server in child processes of this one. Arguments go by 0.5.13's names."""
    from sglang.srt.entrypoints.engine import Engine

    like = chosen()
    return Engine(**(arguments if like is None else like.release.arguments(arguments)))
