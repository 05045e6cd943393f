"""An anchor matches exactly once, or says what it found, without importing anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from g4diag.hooks.anchors import Anchor, has_module, pin

CODE = """
class A:
    @staticmethod
    def f(x):
        g(x)

def h():
    g(1)
    g(2)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "g4pinned" / "inner"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "code.py").write_text(
        "class A:\n    @staticmethod\n    def f(x):\n        g(x)\n\ndef h():\n    g(1)\n    g(2)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "g4pinned.inner.code"


@pytest.mark.parametrize(
    ("inside", "text", "state", "count"),
    [
        ("", "g(x)", "matched", 1),
        (".A.f", "g(", "matched", 1),
        (".A.f", "@staticmethod", "matched", 1),
        (".h", "g(", "ambiguous", 2),
        ("", "g(", "ambiguous", 3),
        (".h", "g(x)", "not found", 0),
        (".A.missing", "g(", "not found", 0),
    ],
)
def test_an_anchor_is_counted_where_it_points(package: str, inside: str, text: str, state: str, count: int) -> None:
    found = pin(Anchor(package + inside, text))
    assert (found.state, found.count, found.matched) == (state, count, state == "matched")
    assert package not in sys.modules and "g4pinned" not in sys.modules


@pytest.mark.parametrize("target", ["g4_no_such_thing.code", "g4pinned.missing.f", "sys"])
def test_a_missing_module_is_a_value(package: str, target: str) -> None:
    found = pin(Anchor(target, "x"))
    assert found.state == "not found" and not found.there


def test_a_module_is_told_from_a_name_in_one(package: str) -> None:
    assert has_module(package) and has_module("g4pinned") and not has_module(f"{package}.A")
    assert not has_module("g4pinned.missing") and not has_module("g4_no_such_thing")


def test_an_anchor_is_held_against_a_folder_of_packages(package: str, tmp_path: Path) -> None:
    other = tmp_path / "another wheel"
    (other / "g4pinned").mkdir(parents=True)
    (other / "g4pinned" / "inner.py").write_text("def h():\n    only = 'there'\n")
    assert (
        pin(Anchor("g4pinned.inner.h", "only"), other).matched and not pin(Anchor("g4pinned.inner.h", "only")).matched
    )
    assert pin(Anchor(package, "g("), other).why == "inner.py has no code"
    assert pin(Anchor("g4elsewhere.code", "x"), other).why == f"no module of g4elsewhere.code is in {other}"


def test_versions_and_pins_import_nothing_heavy() -> None:
    code = (
        "import sys; from g4diag.hooks import versions; from g4diag.hooks import anchors as pins; versions.installed();"
        "pins.pin(pins.Anchor('sglang.srt.server_args', 'x'));"
        "assert not {'torch', 'sglang', 'numpy', 'triton'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
