"""The functions that drive the installed release: each release file names the module that holds them."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from g4diag.errors import CannotRunError
from g4diag.stack.releases import current


def driver() -> Any:
    """The module, `at_0_5_13` and the like: all of them have the same functions, each with its docstring there."""
    return _module(current().drive)


@cache
def _module(name: str) -> Any:
    return importlib.import_module(name)


def require_fuzzing() -> None:
    """CannotRunError unless the installed release's scheduling and fixtures were written for it: a release that takes
    them from its neighbour has not been tried, and what broke there would be ours."""
    if "SCHEDULING" not in vars(driver()):
        raise CannotRunError(f"fuzz: wanted a release that its machines were written for, found {current().name}")
