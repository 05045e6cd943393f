"""CI's parts. Tests that hold whatever stack is installed, or none, run once, where none can be imported. Tests that
need a stack and say nothing of a release run on the default one alone, every other test on each. A plain pytest, and so
`make test`, runs all."""

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
    *(f"analyzers/test_{name}.py" for name in ("once", "stale_tail", "verdict")),
    "cli/test_without_stack.py",
    *(f"contracts/test_{name}.py" for name in ("analyzers", "architecture", "repository", "traps", "wording")),
    *(f"dump/test_{name}.py" for name in ("limited", "ring", "schema", "secrets", "server_log")),
    "hostile/test_expressions.py",
    "hostile/test_hostile.py",
    "logs",
    "matrix",
    "oracles",
    "packaging",
    "report",
    "tools",
    "traps",
)
# Of the others: evidence that is read, commands and processes around a scenario that has tests of its own, and
# mechanism that asks sglang for nothing, or for something to work on. What skips on some release is not for here.
ON_ONE_STACK = (
    "analyzers",
    *(f"benchmarks/test_{name}.py" for name in ("serve_growth", "trap_rivals")),
    *(f"cli/test_{name}.py" for name in ("diff", "doctor_release", "fuzz", "inspect", "interrupt", "log_input")),
    *(f"cli/test_{name}.py" for name in ("match", "minimize", "report", "serve_signals")),
    *(f"cli/test_{name}.py" for name in ("repro", "repro_interrupted", "samples", "serve_postmortem")),
    *(f"contracts/test_{name}.py" for name in ("patches", "releases", "stackless", "start")),
    "doctor/test_elsewhere.py",
    *(f"dump/test_{name}.py" for name in ("case", "core_dump", "format", "legacy", "reader", "runs")),
    *(f"fuzz/test_{name}.py" for name in ("jobs", "machines", "runner", "session")),
    *(f"hooks/test_{name}.py" for name in ("attribute_patches", "on_demand", "targets")),
    "hostile/test_directories.py",
    "hostile/test_mutants.py",
    "machines/test_hooks_machine.py",
    "minimize",
    "sandbox",
    *(f"scenario/test_{name}.py" for name in ("catalogue", "on_server", "score", "standing", "two_workers")),
    "serve",
    *(f"servers/test_{name}.py" for name in ("load_metrics", "run")),
    "stack/drive/test_reference.py",
    *(f"test_{name}.py" for name in ("atomic_write", "discover", "guard", "isolated", "pytest_plugin", "settings")),
    "test_signature.py",
)
_ROOT = Path(__file__).parent
_PATHS = frozenset(_ROOT / name for name in STACKLESS)
_ONE = frozenset(_ROOT / name for name in ON_ONE_STACK)


def add_options(parser: pytest.Parser) -> None:
    parser.addoption("--stackless", action="store_true", help="only tests/stackless.py's, with the stack hidden")
    parser.addoption("--of-stack", action="store_true", help="all but tests/stackless.py's STACKLESS")
    parser.addoption("--of-release", action="store_true", help="of these, all but tests/stackless.py's ON_ONE_STACK")


def is_left_out(path: Path, config: pytest.Config) -> bool:
    """Whether the options leave this test file out."""
    options = config.option
    if path.is_dir() or not (options.stackless or options.of_stack or options.of_release):
        return False
    places = (path, *path.parents)
    if options.stackless:
        return _PATHS.isdisjoint(places)
    return not _PATHS.isdisjoint(places) or (options.of_release and not _ONE.isdisjoint(places))


def hide_the_stack() -> None:
    """From here on importing a package of the stack fails in this process, as that of a missing one does."""
    if loaded := sorted(HEAVY & sys.modules.keys()):
        raise pytest.UsageError(f"--stackless: wanted none of the stack imported, found {', '.join(loaded)}")
    sys.modules.update(dict.fromkeys(HEAVY))  # type: ignore[arg-type]
    versions.version_of = lambda distribution: None
