"""One pass over all modules finds what a pass for each question finds, also while names are bound anew."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g4diag.hooks import aliases

NAMES = ("f", "g", "h")


def first() -> None: ...


def second() -> None: ...


def third() -> None: ...


VALUES = (first, second, third)


class Kernel:
    """What is bound to a name and is no function, as a triton.jit kernel or a promise."""


def few(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """No modules but those that are put here: all of them take a while to go through."""
    modules: dict[str, ModuleType] = {}
    monkeypatch.setattr(aliases, "sys", SimpleNamespace(modules=modules))
    monkeypatch.setattr(aliases, "_FEW", 0)
    return modules


def module(modules: dict[str, ModuleType], number: int) -> ModuleType:
    return modules.setdefault(f"m{number}", ModuleType(f"m{number}"))


def places(value: Any) -> set[tuple[str, str]]:
    return {(module.__name__, name) for module, name in aliases.aliases_of(value)}


def looked_through(value: Any) -> set[tuple[str, str]]:
    return {(module.__name__, name) for module, name in aliases._looked_through(value)}


_NEW = st.tuples(st.just("new"), st.integers(0, 3), st.sampled_from(NAMES), st.sampled_from(VALUES))
_ANEW = st.tuples(st.just("anew"), st.just(0), st.sampled_from(VALUES), st.sampled_from(VALUES))


@given(st.lists(st.one_of(_NEW, _ANEW), max_size=12))
def test_it_finds_what_a_pass_for_each_question_finds(steps: list[tuple[str, int, Any, Any]]) -> None:
    """New modules, new names in others with them, and names given away to whoever asked for them."""
    with pytest.MonkeyPatch.context() as patch, aliases.one_pass():
        modules = few(patch)
        for kind, number, what, value in steps:
            if kind == "anew":
                for where, name in aliases.aliases_of(what):
                    setattr(where, name, value)
            else:
                setattr(module(modules, len(modules)), what, value)
                setattr(module(modules, number % len(modules)), f"{what}{len(modules)}", value)
            assert all(places(each) == looked_through(each) for each in VALUES)


def test_a_pass_is_made_anew_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = few(monkeypatch)
    module(modules, 0).f = first  # type: ignore[attr-defined]
    with aliases.one_pass(), aliases.one_pass():
        assert places(first) == {("m0", "f")}
    module(modules, 0).f = second  # type: ignore[attr-defined]
    with aliases.one_pass():
        assert not places(first) and places(second) == {("m0", "f")}


def test_a_function_in_the_place_of_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a promise is kept, or a kernel has a function for a stand-in."""
    modules, kernel = few(monkeypatch), Kernel()
    vars(module(modules, 0)).update(f=first, g=kernel)
    with aliases.one_pass():
        assert places(first) == {("m0", "f")} and not places(second)
        for where, name in aliases.aliases_of(kernel):
            setattr(where, name, second)
        assert places(second) == {("m0", "g")}
