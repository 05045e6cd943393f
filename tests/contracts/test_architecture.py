"""The picture in DESIGN.md holds, and each rule that says so bites when it is broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from tests.contracts import rules

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    PurePosixPath(path.relative_to(ROOT).as_posix()): path.read_text(encoding="utf-8")
    for folder in ("g4diag", "repro")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
CONTRIBUTIONS = [p for p in SOURCES if str(p.parent) in rules.CONSTANTS and p.name != "__init__.py"]
TRAP = PurePosixPath("g4diag/traps/some_claim.py")


def complaints(rule: rules.Rule) -> list[str]:
    return [complaint for path, source in SOURCES.items() for complaint in rule(path, source)]


@pytest.mark.parametrize(
    "rule",
    [
        rules.direction,
        rules.heavy,
        rules.names_sglang,
        rules.portable,
        rules.third_party,
        rules.proportions,
        rules.docstring,
    ],
    ids=lambda rule: rule.__name__,
)
def test_rule_holds(rule: rules.Rule) -> None:
    assert not complaints(rule), "\n".join(complaints(rule))


@pytest.mark.parametrize("path", CONTRIBUTIONS, ids=str)
def test_contribution_declares_one_constant(path: PurePosixPath) -> None:
    assert not list(rules.constant(path, SOURCES[path], SOURCES))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("g4diag/model.py", "from g4diag.traps import contract"),
        ("g4diag/traps/x.py", "from g4diag.dump.reader import read"),
        ("g4diag/traps/x.py", "import g4diag.stack.drive.cpu"),
        ("g4diag/traps/x.py", "from ..analyzers import contract"),
        ("g4diag/traps/x.py", "from g4diag import report"),
        ("g4diag/dump/x.py", "from g4diag.analyzers import verdict"),
        ("g4diag/dump/x.py", "def f():\n    from g4diag.stack.drive import cpu"),
        ("g4diag/analyzers/x.py", "from g4diag.report import text"),
        ("g4diag/report/x.py", "from g4diag.cli import main"),
        ("g4diag/patches/x.py", "from g4diag.report.text import render"),
        ("repro/x.py", "from g4diag.cli.main import main"),
        ("g4diag/newcomer.py", "import os"),
    ],
)
def test_direction_bites(path: str, source: str) -> None:
    assert list(rules.direction(PurePosixPath(path), source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("g4diag/traps/x.py", "import torch"),
        ("g4diag/traps/x.py", "def judge(view):\n    import torch"),
        ("g4diag/traps/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("g4diag/cli/x.py", "def run():\n    from sglang.srt import utils"),
        ("g4diag/report/x.py", "try:\n    import triton.language\nexcept ImportError:\n    pass"),
        ("g4diag/analyzers/x.py", "import flashinfer.decode"),
        ("g4diag/dump/x.py", "import torch"),
        ("g4diag/dump/x.py", "def read():\n    import sglang"),
        ("g4diag/patches/x.py", "class A:\n    import sglang"),
        ("repro/x.py", "import torch"),
    ],
)
def test_heavy_bites(path: str, source: str) -> None:
    assert list(rules.heavy(PurePosixPath(path), source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("g4diag/stack/cpu/x.py", "import torch, sglang"),
        ("g4diag/patches/x.py", "def hook():\n    from sglang.srt import utils"),
        ("g4diag/dump/x.py", "def read():\n    import torch"),
        ("repro/x.py", "if __name__ == '__main__':\n    from g4diag.cli.main import main"),
        ("g4diag/traps/x.py", "import numpy as np\nfrom g4diag.model import View\nfrom g4diag import __version__"),
    ],
)
def test_the_legal_forms_pass(path: str, source: str) -> None:
    where = PurePosixPath(path)
    assert not [*rules.heavy(where, source), *rules.direction(where, source), *rules.third_party(where, source)]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("g4diag/fuzz/x.py", "import sglang"),
        ("g4diag/fuzz/x.py", "def step():\n    from sglang.srt.managers import schedule_batch"),
        ("g4diag/serve/x.py", "if __name__ == '__main__':\n    import flashinfer.decode"),
        ("g4diag/scenario/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sgl_kernel import ops"),
        ("g4diag/hooks/x.py", "TARGET = 'sglang.srt.mem_cache.common.release_kv_cache'"),
        ("g4diag/traps/x.py", "def f(name):\n    return f'flashinfer.decode.{name}'"),
        ("g4diag/hooks/dispatcher.py", "from sglang.srt.plugins import load_plugins"),
        ("g4diag/doctor/x.py", "GROUP = 'sglang.srt.plugins'"),
        ("g4diag/doctor/plugin_state.py", "LOADER = 'sglang.srt.plugins.load_plugins'"),
    ],
)
def test_names_sglang_bites(path: str, source: str) -> None:
    assert list(rules.names_sglang(PurePosixPath(path), source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("g4diag/stack/drive/x.py", "def step():\n    import sglang"),
        ("g4diag/patches/x.py", "TARGET = 'sglang.srt.utils.f'"),
        ("repro/x.py", "TARGET = 'flashinfer.decode.f'"),
        ("g4diag/traps/x.py", "'''As sglang.srt.utils.f does.'''\nimport numpy"),
        (
            "g4diag/dump/x.py",
            "def read():\n    '''What flashinfer.api_logging writes.'''\n    from ..model import sglang",
        ),
        ("g4diag/hooks/x.py", "NAME, TEXT = 'sglang', 'wanted sglang 0.5.13. Found flashinfer 0.6.12'"),
        ("g4diag/hooks/dispatcher.py", "from sglang.srt.plugins.hook_registry import HookRegistry"),
        ("g4diag/doctor/plugin_state.py", "GROUP = 'sglang.srt.plugins'"),
    ],
)
def test_what_may_name_sglang_passes(path: str, source: str) -> None:
    assert not list(rules.names_sglang(PurePosixPath(path), source))


def test_each_exception_is_needed() -> None:
    for path, names in rules.NAMED_ELSEWHERE.items():
        assert all(name in SOURCES[PurePosixPath(path)] for name in names), path


def test_no_import_runs_up() -> None:
    assert not list(rules.runs_up(rules.MAY_IMPORT))


@pytest.mark.parametrize(
    ("may_import", "says"),
    [
        ({"stack": {"patches"}, "patches": {"hooks", "stack"}, "hooks": set()}, "stack"),
        ({"cli": {"report"}, "report": {"model"}, "model": {"cli"}}, "report"),
        ({"cli": {"nowhere"}}, "nowhere"),
    ],
)
def test_runs_up_bites(may_import: dict[str, set[str]], says: str) -> None:
    (complaint,) = rules.runs_up(may_import)
    assert says in complaint


@pytest.mark.parametrize("source", ["import rich", "def judge(view):\n    import pandas"])
def test_third_party_bites(source: str) -> None:
    assert list(rules.third_party(TRAP, source))


@pytest.mark.parametrize(
    "source",
    ["x = 1\n" * (rules.MAX_FILE_LINES + 1), "class A:\n  def f():\n" + "    pass\n" * rules.MAX_FUNCTION_LINES],
    ids=["file", "function"],
)
def test_proportions_bite(source: str) -> None:
    assert list(rules.proportions(TRAP, source))


@pytest.mark.parametrize("source", ["from repro.x import f", "def run():\n    import g4diag.repro", "from . import x"])
def test_portable_bites(source: str) -> None:
    assert list(rules.portable(PurePosixPath("repro/x.py"), source))


def test_docstring_bites() -> None:
    assert list(rules.docstring(TRAP, "x = 1\n"))
    assert not list(rules.docstring(TRAP, ""))


def test_constant_bites() -> None:
    """Missing and unused, or with a second one; a helper that something imports passes."""
    helped = {PurePosixPath("g4diag/traps/y.py"): "from g4diag.traps.some_claim import f"}
    assert list(rules.constant(TRAP, "def f(): ...", {}))
    assert list(rules.constant(TRAP, "TRAP = 1\nLIMIT: int = 2", {}))
    assert not list(rules.constant(TRAP, "TRAP = 1\n_LIMIT = 2", {}))
    assert not list(rules.constant(TRAP, "def f(): ...", helped))


def test_all_but_stack_imports_without_the_heavy_packages() -> None:
    """`g4diag inspect` runs on a laptop without sglang, and so does `repro --list`: what the AST cannot see through,
    the import shows. stack/ may be heavy, and the one file that measures drafts; whoever uses them does so lazily."""
    heavy = PurePosixPath("g4diag/scenario/measure.py")
    light = [p for p in SOURCES if p.parts[:2] != ("g4diag", "stack") and p != heavy and p.name != "__main__.py"]
    names = [".".join(p.with_suffix("").parts) for p in light]
    blocked = f"import sys, importlib; sys.modules.update(dict.fromkeys({sorted(rules.HEAVY)!r}))"
    program = f"{blocked}\nfor name in {names!r}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
