"""Our traps in somebody else's suite: real allocators of sglang, driven by tests that know nothing of g4diag."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.analyzers import inspect_file
from tests import forked

ROOT = Path(__file__).parents[1]
MADE = (ROOT / "docs" / "finds" / "test_alloc_decode.py").read_text().partition("def test_")[0]
SUITE = f"""{MADE}
import pytest

NONE = torch.tensor([0])


def page(made):
    return made.alloc_extend(NONE, NONE, torch.tensor([PAGE]), torch.tensor([PAGE]), torch.tensor([-1]), PAGE)


def test_healthy():
    made = allocator()
    made.free(page(made))


def test_twice_freed():
    made = allocator()
    slots = page(made)
    made.full_attn_allocator.free(slots)
    made.full_attn_allocator.free(slots)


@pytest.fixture
def broken_fixture():
    made = allocator()
    slots = page(made)
    yield
    made.full_attn_allocator.free(slots)
    made.full_attn_allocator.free(slots)


def test_in_a_fixture(broken_fixture):
    pass


def test_fails_by_itself():
    made = allocator()
    made.full_attn_allocator.free(slots := page(made))
    made.full_attn_allocator.free(slots)
    assert 1 == 2, "its own"


def test_of_something_else():
    pass
"""
FREED = "free_of_live_only"
PLUGIN = ("-p", "g4diag.pytest_plugin")


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "SGLANG_USE_CPU_ENGINE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "test_theirs.py").write_text(SUITE)
    return tmp_path


def judged(text: str, trap: str) -> tuple[int, int, int]:
    found = re.search(rf"^{trap} +(\d+) +(\d+) +(\d+)$", text, re.M)
    assert found is not None, text
    a, b, c = (int(number) for number in found.groups())
    return a, b, c


def test_strict_fails_each_test_that_broke_something_and_no_other(folder: Path) -> None:
    code, text = run(folder, "--g4diag=strict", "-rA", "-n", "1")
    assert code == 1, text
    assert "PASSED test_theirs.py::test_healthy" in text and "PASSED test_theirs.py::test_of_something_else" in text
    assert "FAILED test_theirs.py::test_twice_freed" in text
    assert "ERROR test_theirs.py::test_in_a_fixture" in text
    assert "FAILED test_theirs.py::test_fails_by_itself - AssertionError: its own" in text, "its own failure is first"
    named = re.findall(rf"^g4diag: test_theirs.py::(\w+) \((\w+)\): \w+: g4diag: {FREED}: .*; dump: (.+)$", text, re.M)
    assert {(test, when) for test, when, _ in named} == {
        ("test_twice_freed", "call"),
        ("test_in_a_fixture", "teardown"),
        ("test_fails_by_itself", "call"),
    }, text
    assert all(inspect_file(Path(dump)).outcome.exit_code == 1 for _, _, dump in named)
    views, tests, broken = judged(text, FREED)
    assert views >= 7 and tests == 4 and broken == 3
    views, tests, _ = judged(text, "free_list_is_free")
    assert views and tests == 4, "at the end of a test, however few its calls"
    assert judged(text, "page_table_stays_in_pool") == (0, 0, 0), "0 is said"


def test_warn_names_and_fails_nothing(folder: Path) -> None:
    code, text = forked.run_pytest(
        folder, *PLUGIN, "--g4diag=warn", f"--g4diag-traps={FREED}", "-k", "twice or healthy"
    )
    assert code == 0, text
    assert re.search(rf"^g4diag: test_theirs.py::test_twice_freed \(call\): .*{FREED}", text, re.M)
    assert judged(text, FREED)[1:] == (2, 1)


def test_a_strict_run_that_judged_nothing_fails(folder: Path) -> None:
    code, text = forked.run_pytest(
        folder, *PLUGIN, "--g4diag=strict", f"--g4diag-traps={FREED}", "-k", "something_else"
    )
    assert code == 1 and "nothing was judged" in text


def test_it_is_off_unless_asked_and_a_wrong_name_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "test_none.py").write_text("def test_nothing():\n    pass\n")
    code, text = forked.run_pytest(tmp_path, *PLUGIN)
    assert code == 0 and "g4diag" not in text, text
    code, text = forked.run_pytest(tmp_path, *PLUGIN, "--g4diag=warn", "--g4diag-traps=no_such")
    assert code == 4 and text.startswith("ERROR: g4diag: unknown trap: wanted one of "), text
