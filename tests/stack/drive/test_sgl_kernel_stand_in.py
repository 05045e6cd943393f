"""sgl_kernel's names can be imported where its library cannot be loaded, and none of them can be called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from g4diag.errors import CannotRunError
from g4diag.hooks.anchors import Anchor, Pin
from g4diag.stack.drive import sgl_kernel_stand_in


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of that name in an otherwise fresh import system, of an sglang that imports it at the top."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "sgl_kernel"}
    for name in before:
        del sys.modules[name]
    found = Pin(Anchor("x", "y"), "matched", 1, "")
    monkeypatch.setattr(sgl_kernel_stand_in, "pin", lambda anchor: found)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "sgl_kernel"
    folder.mkdir()
    (folder / "scalar_type.py").write_text("uint8 = 8\n")
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "sgl_kernel"]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.mark.parametrize("error", ["ImportError('libcuda.so.1: cannot open shared object file')", "OSError('no lib')"])
def test_names_can_be_imported_and_not_called(package: Path, error: str) -> None:
    (package / "__init__.py").write_text(f"half = 1\nraise {error}\n")
    assert sgl_kernel_stand_in.install() and sgl_kernel_stand_in.install()
    module = importlib.import_module("sgl_kernel")
    assert sgl_kernel_stand_in.is_in_place() and "rmsnorm" in repr(module.rmsnorm)
    with pytest.raises(CannotRunError, match=r"sgl_kernel.rmsnorm: wanted .*, found (Import|OS)Error: "):
        module.rmsnorm()
    assert importlib.import_module("sgl_kernel.scalar_type").uint8 == 8, "pure Python stays real"
    assert not hasattr(module, "__wrapped__") and not sgl_kernel_stand_in.install(), "imported before"


def test_one_that_loads_stays_itself(package: Path) -> None:
    (package / "__init__.py").write_text("rmsnorm = 1\n")
    assert sgl_kernel_stand_in.install()
    assert importlib.import_module("sgl_kernel").rmsnorm == 1 and not sgl_kernel_stand_in.is_in_place()


def test_another_error_of_it_is_its_own(package: Path) -> None:
    (package / "__init__.py").write_text("raise ZeroDivisionError\n")
    sgl_kernel_stand_in.install()
    with pytest.raises(ZeroDivisionError):
        importlib.import_module("sgl_kernel")


def test_an_sglang_that_does_without_keeps_doing_so(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Pin(Anchor("x", "y"), "not found", 0, "")
    monkeypatch.setattr(sgl_kernel_stand_in, "pin", lambda anchor: missing)
    before = list(sys.meta_path)
    assert not sgl_kernel_stand_in.install() and sys.meta_path == before
