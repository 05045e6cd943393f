"""A package on demand runs its `__init__` once, when somebody asks for what is not there yet; then it is any other."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from g4diag.hooks.attribute_patches import Swap, swap
from g4diag.hooks.install import Hook, install
from g4diag.hooks.on_demand import put_off, waiting

FILES = {
    "g4demand/__init__.py": "import g4heavy\nfrom g4demand.inner.light import f as g\ndef f(): return 1\n"
    "class Kernel: ...\nkernel = Kernel()\n",
    "g4demand/inner/__init__.py": "runs = len(__import__('sys').modules['g4counted'].runs)\n"
    "__import__('sys').modules['g4counted'].runs.append(1)\n",
    "g4demand/inner/light.py": "def f(): return 2\n",
    "g4demand/broken/__init__.py": "import g4_no_such_thing\n",
    "g4demand/broken/light.py": "",
    "g4demand/plain.py": "value = 3\n",
    "g4heavy.py": "",
    "g4counted.py": "runs = []\n",
    "g4demand/promising.py": "__import__('g4counted').runs.append(2)\nclass Base:\n    made = 4\n"
    "def double(n): return 2 * n\nlimit = 7\n",
}
MODULES = ("g4demand.promising", "g4demand.plain")
PACKAGES = ("g4demand", "g4demand.inner", "g4demand.broken", "g4demand.plain", "g4early")


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    importlib.import_module("g4counted")
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("g4demand", "g4heavy", "g4counted")]:
        del sys.modules[name]


def test_its_modules_are_imported_without_it() -> None:
    put_off(PACKAGES)
    assert importlib.import_module("g4demand.inner.light").f() == 2
    assert waiting() == ["g4demand", "g4demand.inner"]
    assert "g4heavy" not in sys.modules and not sys.modules["g4counted"].runs
    assert importlib.import_module("g4demand.plain").value == 3, "a module that is no package is imported as ever"


def test_without_it_they_are_not() -> None:
    importlib.import_module("g4demand.inner.light")
    assert waiting() == [] and "g4heavy" in sys.modules and sys.modules["g4counted"].runs == [1]


def test_the_first_name_that_is_not_there_runs_it_once_on_the_same_module() -> None:
    put_off(PACKAGES)
    package = importlib.import_module("g4demand.inner")
    light = importlib.import_module("g4demand.inner.light")
    assert package.light is light and waiting() == ["g4demand", "g4demand.inner"], "what is there asks for nothing"
    assert package.runs == 0 and package.runs == 0 and not hasattr(package, "no_such_name")
    assert importlib.import_module("g4demand.inner") is package and type(package) is ModuleType
    assert sys.modules["g4counted"].runs == [1] and waiting() == ["g4demand"]
    assert package.__spec__ is not None and package.__loader__ is package.__spec__.loader
    assert isinstance(package.__loader__, SourceFileLoader)


def test_from_import_asks_too() -> None:
    put_off(PACKAGES)
    exec("from g4demand import f, g", found := {})
    assert found["f"]() == 1 and found["g"]() == 2 and "g4heavy" in sys.modules
    assert waiting() == ["g4demand.inner"]


def test_one_that_fails_says_so_to_everybody_who_asks() -> None:
    put_off(PACKAGES)
    importlib.import_module("g4demand.broken.light")
    package = sys.modules["g4demand.broken"]
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="g4_no_such_thing"):
            package.anything  # noqa: B018
    assert "g4demand.broken" in waiting()


def test_what_was_imported_before_is_left_alone() -> None:
    before = importlib.import_module("g4demand.inner")
    put_off(PACKAGES)
    assert importlib.import_module("g4demand.inner") is before and waiting() == []


def test_a_hook_in_one_is_armed_and_reaches_who_imports_it_later() -> None:
    """Resolving it runs the `__init__`, so there is nothing that a hook could miss."""
    pytest.importorskip("sglang")
    put_off(PACKAGES)
    importlib.import_module("g4demand.inner.light")
    with install("test", [Hook("g4demand.f", "around", lambda original: original() + 10)]) as hooked:
        exec("from g4demand import f", found := {})
        assert found["f"]() == 11 and not hooked.problems()
    assert sys.modules["g4demand"].f() == 1


def test_a_stand_in_for_an_attribute_of_one_is_put_in_place() -> None:
    put_off(PACKAGES)
    with swap("test", [Swap("g4demand.kernel", lambda found: [found])]):
        (found,) = sys.modules["g4demand"].kernel
    assert sys.modules["g4demand"].kernel is found


def promised() -> tuple[dict[str, Any], ModuleType]:
    """What two modules hold after `from g4demand.promising import Base, double`."""
    put_off(PACKAGES, MODULES)
    holder = ModuleType("g4demand.holder")
    sys.modules[holder.__name__] = holder
    exec("from g4demand.promising import Base, double", vars(holder))
    assert "g4demand.promising" in waiting() and not sys.modules["g4counted"].runs
    return vars(holder), sys.modules["g4demand.promising"]


@pytest.mark.parametrize(
    "used",
    [
        lambda held: held["double"](3) == 6,
        lambda held: held["Base"]().made == 4,
        lambda held: held["Base"].made == 4,
        lambda held: not isinstance(3, held["Base"]),
        lambda held: not isinstance(3, (bool, held["Base"])),
        lambda held: not issubclass(int, held["Base"]),
        lambda held: types.new_class("Sub", (held["Base"],)).__mro__[1].__name__ == "Base",
        lambda held: isinstance(3, held["Base"] | int) and isinstance(3, int | held["Base"]),
        lambda held: setattr(held["Base"], "made", 5) is None and sys.modules["g4demand.promising"].Base.made == 5,
    ],
)
def test_a_promise_is_kept_when_it_is_used(used: Callable[[dict[str, Any]], bool]) -> None:
    held, module = promised()
    assert used(dict(held))
    assert held["Base"] is module.Base and held["double"] is module.double, "who holds a promise holds the thing now"
    assert sys.modules["g4counted"].runs == [2] and type(module) is ModuleType


def test_a_promise_taken_away_before_it_was_kept_keeps_it() -> None:
    held, module = promised()
    kept = held["double"]
    assert module.limit == 7, "what is neither a function nor a class runs the module"
    assert held["double"] is module.double and kept is not module.double and kept(2) == 4
    assert sys.modules["g4counted"].runs == [2]


def test_what_a_module_does_not_define_is_not_promised() -> None:
    put_off(PACKAGES, MODULES)
    with pytest.raises(ImportError, match="no_such_name"):
        exec("from g4demand.promising import no_such_name", {})
    assert importlib.import_module("g4demand.plain").value == 3


def test_a_hook_reaches_who_was_given_a_promise() -> None:
    pytest.importorskip("sglang")
    held, module = promised()
    with install("test", [Hook("g4demand.promising.double", "around", lambda original, n: original(n) + 1)]) as hooked:
        assert held["double"](3) == 7 and not hooked.problems()
    assert held["double"](3) == 6 and held["double"] is module.double
