"""The functions that drive the installed release: each release file names the module that holds them."""

from __future__ import annotations

import importlib
from typing import Any

from g4diag.stack.releases import current


def driver() -> Any:
    """The module, `at_0_5_13` and the like: all of them have the same functions, each with its docstring there."""
    return importlib.import_module(current().drive)
