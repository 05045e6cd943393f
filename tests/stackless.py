"""Tests that hold whatever stack is installed, or none: CI runs them once, where none can be imported, and every other
test on each stack. A plain pytest, and so `make test`, runs all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from g4diag.hooks import versions
from tests.contracts.rules import HEAVY

# Folders and files below tests/. What is listed wrongly fails in CI: see `hide_the_stack`.
STACKLESS = (
    *(f"analyzers/test_{name}.py" for name in ("cross_space", "inspection", "mapping_map", "occupancy", "table_map")),
    *(f"analyzers/test_{name}.py" for name in ("causes", "conclusion", "confusion", "injected_files")),
    *(f"analyzers/test_{name}.py" for name in ("stale_tail", "verdict")),
    "cli/test_without_stack.py",
    *(f"contracts/test_{name}.py" for name in ("analyzers", "architecture", "repository", "traps", "wording")),
    *(f"dump/test_{name}.py" for name in ("ring", "schema", "secrets", "server_log")),
    "hostile/test_hostile.py",
    "logs",
    "matrix",
    "packaging",
    "report",
    "tools",
    "traps",
)
_ROOT = Path(__file__).parent
_PATHS = frozenset(_ROOT / name for name in STACKLESS)


def add_options(parser: pytest.Parser) -> None:
    parser.addoption("--stackless", action="store_true", help="only tests/stackless.py's, with the stack hidden")
    parser.addoption("--of-stack", action="store_true", help="all but tests/stackless.py's")


def is_left_out(path: Path, config: pytest.Config) -> bool:
    """Whether the options leave this test file out."""
    if path.is_dir() or not (config.option.stackless or config.option.of_stack):
        return False
    return bool(config.option.of_stack) is not _PATHS.isdisjoint((path, *path.parents))


def hide_the_stack() -> None:
    """From here on importing a package of the stack fails in this process, as that of a missing one does."""
    if loaded := sorted(HEAVY & sys.modules.keys()):
        raise pytest.UsageError(f"--stackless: wanted none of the stack imported, found {', '.join(loaded)}")
    sys.modules.update(dict.fromkeys(HEAVY))  # type: ignore[arg-type]
    versions.version_of = lambda distribution: None
