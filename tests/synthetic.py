"""Synthetic modules to hook: every kind of target, and every place an alias of one can hide."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

BASE, USER = "g4synthetic.base", "g4synthetic.user"

_BASE_SOURCE = '''
import functools
from contextlib import contextmanager

calls = []

def plain(*args, **kwargs):
    calls.append("plain")
    return ("plain", args, kwargs)

def failing():
    raise KeyError("the original's own")

@contextmanager
def manager(value):
    calls.append("manager")
    yield value
    calls.append("left")

async def coroutine():
    return 1

@functools.lru_cache
def cached():
    return 1

class Launcher:
    """Stands for a triton.jit object: subscriptable, callable, not a function."""
    def __getitem__(self, grid):
        return self
    def __call__(self):
        return 1

kernel = Launcher()

class Base:
    def __init__(self):
        self.built = True
    def method(self, *args, **kwargs):
        calls.append("method")
        return ("method", args, kwargs)
    @staticmethod
    def static(*args, **kwargs):
        calls.append("static")
        return ("static", args, kwargs)
    @classmethod
    def klass(cls, *args, **kwargs):
        calls.append("klass")
        return (cls.__name__, args, kwargs)
    @property
    def prop(self):
        return 1

class Child(Base):
    def own(self):
        return "own"

class Mixin(Base):
    def method(self, *args, **kwargs):
        return ("mixin", super().method(*args, **kwargs))

class Diamond(Child, Mixin):
    pass
'''

_USER_SOURCE = """
from g4synthetic.base import Base, plain, manager
renamed = plain
method_alias = Base.method
static_alias = Base.static
"""


@contextmanager
def tree() -> Iterator[tuple[Any, Any]]:
    """The modules `g4synthetic.base` and `g4synthetic.user`, in sys.modules for as long as the context lasts."""
    names = ("g4synthetic", BASE, USER)
    try:
        for name, source in zip(names, ("__path__ = []", _BASE_SOURCE, _USER_SOURCE), strict=True):
            module(name, source)
        sys.modules["g4synthetic"].base = sys.modules[BASE]  # type: ignore[attr-defined]
        sys.modules["g4synthetic"].user = sys.modules[USER]  # type: ignore[attr-defined]
        yield sys.modules[BASE], sys.modules[USER]
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "g4synthetic"]:
            del sys.modules[name]


def module(name: str, source: str) -> ModuleType:
    """A new module in sys.modules made from `source`."""
    made = ModuleType(name)
    sys.modules[name] = made
    exec(source, vars(made))
    return made


def raw_snapshot(*modules: Any) -> dict[tuple[str, str], Any]:
    """(holder, name) -> raw value for everything in the modules and in the classes they define, by identity."""
    taken = {}
    for where in modules:
        taken.update({(where.__name__, name): value for name, value in vars(where).items()})
        for holder in [value for value in vars(where).values() if isinstance(value, type)]:
            if holder.__module__ == where.__name__ or holder.__module__.startswith("g4synthetic"):
                taken.update({(holder.__qualname__, name): value for name, value in vars(holder).items()})
    return taken


def differences(before: dict[tuple[str, str], Any], after: dict[tuple[str, str], Any]) -> list[tuple[str, str]]:
    """Places that appeared, vanished or hold another object."""
    nothing = object()
    return sorted(at for at in {*before, *after} if before.get(at, nothing) is not after.get(at, nothing))
