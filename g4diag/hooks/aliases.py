"""Every name that a function is bound to in any module: what `from x import f` leaves behind.

A server has some 190,000 names in 6000 modules. Going through all of them for each of fifty hooks took seconds; inside
`one_pass` they are gone through once, and once more where modules were imported meanwhile. A module is looked at again
after a name of it was given away, since whoever asked is about to bind it to something else.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from operator import is_
from typing import Any

_Place = tuple[types.ModuleType, str]
_FEW = 4  # questions that cost less, each by itself, than the one pass
_KINDS = frozenset({types.FunctionType, types.BuiltinFunctionType, staticmethod, classmethod})
_index: _Index | None = None


@contextmanager
def one_pass() -> Iterator[None]:
    """For a body that asks for many, imports what it likes, and else binds anew only what it asked for. Bodies may be
    nested."""
    global _index
    outer = _index
    _index = outer or _Index()
    try:
        yield
    finally:
        _index = outer


def aliases_of(value: Any) -> list[_Place]:
    """Every (module, name) bound to this very object."""
    return _looked_through(value) if _index is None else _index.of(value)


def _looked_through(value: Any) -> list[_Place]:
    found: list[_Place] = []
    for module in _modules():
        # Nearly every module has none: it is looked through without a step of Python's for each of its names.
        if any(map(is_, list(vars(module).values()), repeat(value))):
            found += [(module, name) for name, bound in list(vars(module).items()) if bound is value]
    return found


def _modules() -> list[types.ModuleType]:
    return [module for module in list(sys.modules.values()) if isinstance(module, types.ModuleType)]


class _Index:
    """Places by the id of what is bound there. It keeps none of it alive: a place counts if it still has the value."""

    def __init__(self) -> None:
        self._asked = self._modules = 0
        self._places: dict[int, dict[tuple[int, str], _Place]] = {}
        self._names: dict[int, int] = {}  # of a module, how many it had when it was looked at
        self._given_away: dict[int, types.ModuleType] = {}

    def of(self, value: Any) -> list[_Place]:
        self._asked += 1
        if self._asked <= _FEW or type(value) not in _KINDS:
            found = _looked_through(value)  # what is bound there next may be a function
            self._given_away |= {id(module): module for module, _ in found}
            return found
        if self._modules != len(sys.modules):
            self._modules = len(sys.modules)
            changed = [module for module in _modules() if self._names.get(id(module)) != len(vars(module))]
        else:
            changed = []
        for module in (*changed, *self._given_away.values()):
            self._look(module)
        known = self._places.get(id(value), {}).values()
        found = [(module, name) for module, name in known if vars(module).get(name) is value]
        self._given_away = {id(module): module for module, _ in found}
        return found

    def _look(self, module: types.ModuleType) -> None:
        names = list(vars(module).items())
        for name, bound in names:
            if type(bound) in _KINDS:
                self._places.setdefault(id(bound), {})[id(module), name] = module, name
        self._names[id(module)] = len(names)
