"""What pyproject promises: a light core, the exact stack, both entry points, and scenarios inside the wheel."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.contracts import rules

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_stack_is_one_exact_release(pyproject: dict[str, Any]) -> None:
    """It is the Makefile's default too, which reads this line."""
    (stack,) = pyproject["project"]["optional-dependencies"]["stack"]
    release = re.fullmatch(r"sglang==([\d.]+(?:post\d+)?)", stack)
    assert release is not None
    make = ["make", "--no-print-directory", "-C", str(ROOT), "-n", "setup"]
    # Not the release that these tests may run on.
    plain = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKEOVERRIDES", "STACK")}
    recipe = subprocess.run(make, env=plain, capture_output=True, text=True, check=True).stdout
    assert f"stack_env.py setup {release[1]} .venv\n" in recipe


def test_the_core_is_light_and_declared(pyproject: dict[str, Any]) -> None:
    """What g4diag imports besides the stack's packages is declared, and nothing more."""
    declared = {requirement.partition(">=")[0] for requirement in pyproject["project"]["dependencies"]}
    imported = set()
    of_pytest = ROOT / "g4diag" / "pytest_plugin.py"  # pytest imports it, nobody else
    for path in {*(ROOT / "g4diag").rglob("*.py")} - {of_pytest}:
        where = PurePosixPath(path.relative_to(ROOT).as_posix())
        imported |= {found.module.split(".")[0] for found in rules.imports_of(where, path.read_text(encoding="utf-8"))}
    ours = set(sys.stdlib_module_names) | {"g4diag"} | rules.HEAVY
    extras = pyproject["project"]["optional-dependencies"]
    optional = {requirement.partition(">=")[0] for name in ("fuzz", "html") for requirement in extras[name]}
    assert imported - ours - optional == declared == {"numpy", "packaging", "rich", "typer"}


@pytest.mark.parametrize(("group", "name"), [("scripts", "g4diag"), ("entry-points", "sglang.srt.plugins")])
def test_entry_points_resolve(pyproject: dict[str, Any], group: str, name: str) -> None:
    declared = pyproject["project"][group][name]
    target = declared if isinstance(declared, str) else declared["g4diag"]
    module, _, attribute = target.partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_the_wheel_is_one_package_with_the_scenarios_in_it(pyproject: dict[str, Any]) -> None:
    wheel = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["g4diag"], "force-include": {"repro": "g4diag/repro"}}
    assert (ROOT / "repro").is_dir() and not (ROOT / "g4diag" / "repro").exists()
