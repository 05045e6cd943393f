"""CI's parts are all of the tests, each test in one of them or on every stack, and none that wants the stack is in the
part without."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import stackless
from tests.contracts.rules import HEAVY

TESTS = Path(__file__).resolve().parents[1]
FILES = sorted(TESTS.rglob("test_*.py"))


def left(**options: bool) -> set[Path]:
    config: Any = SimpleNamespace(
        option=SimpleNamespace(**{"stackless": False, "of_stack": False, "of_release": False} | options)
    )
    return {path for path in FILES if not stackless.is_left_out(path, config)}


def skips_without(source: str) -> list[str]:
    """What is missing where the stack is hidden, and so would be skipped there and seen by nobody."""
    return [name for name in re.findall(r'importorskip\(\s*"(\w+)', source) if name in HEAVY]


def test_the_parts_are_all_of_the_tests() -> None:
    without, of_stack = left(stackless=True), left(of_stack=True)
    assert without | of_stack == left() == set(FILES) and not without & of_stack
    assert len(without) > 40 and len(of_stack) > 100


def test_what_runs_on_one_stack_alone_is_listed_is_there_and_runs_on_the_default() -> None:
    of_stack, of_release = left(of_stack=True), left(of_release=True)
    assert of_release < of_stack and len(of_release) > 80
    listed = [TESTS / name for name in stackless.ON_ONE_STACK]
    assert all(path.exists() for path in listed)
    alone = of_stack - of_release
    assert all(any(path in (test, *test.parents) for test in alone) for path in listed), "one is listed for nothing"
    # Skipped on some releases: such a file must run on each.
    assert not {test.name for test in alone if re.search("^from tests.marks import", test.read_text(), re.M)}


def test_ci_runs_the_default_stack_whole_and_the_others_by_release() -> None:
    run = (TESTS.parent / ".ci" / "run").read_text()
    stacks = re.search(r"^STACKS=\((.+)\)$", run, re.M)
    default = re.search(r'^stack = \["sglang==(.+)"\]$', (TESTS.parent / "pyproject.toml").read_text(), re.M)
    assert stacks is not None and default is not None and stacks[1].split()[0] == default[1]
    parts = re.findall(r"^ *part pytest (.+)$", run, re.M)
    assert parts == [
        "STACK=none",
        'STACK="${STACKS[0]}" ARGS=--of-stack',
        'STACK="$stack" ARGS=--of-release',
    ]
    assert 'for stack in "${STACKS[@]:1}"; do\n  part pytest STACK="$stack" ARGS=--of-release' in run


@pytest.mark.parametrize("name", stackless.STACKLESS)
def test_what_is_listed_is_there_and_skips_nothing_for_want_of_the_stack(name: str) -> None:
    path = TESTS / name
    files = sorted(path.rglob("test_*.py")) if path.is_dir() else [path]
    assert files and not {each.name: found for each in files if (found := skips_without(each.read_text()))}


def test_it_bites() -> None:
    assert skips_without('pytest.importorskip("sglang.srt")') == ["sglang"]
    program = "from tests import stackless; stackless.hide_the_stack(); import torch"
    done = subprocess.run([sys.executable, "-c", program], cwd=TESTS.parent, capture_output=True, text=True)
    assert done.returncode == 1 and "import of torch halted" in done.stderr
