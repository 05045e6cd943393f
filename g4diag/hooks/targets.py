"""A dotted path -> the place it names, what is there, and how to put exactly that back.

A place is a slot in the `__dict__` of a module or class. What is there is kept raw, descriptor included: reading
through getattr would lose whether it was a staticmethod, a classmethod, or only inherited.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from g4diag.errors import PatchRefused
from g4diag.hooks import on_demand

Function = Callable[..., Any]

_PLAIN = (types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)
_SPECIAL = ("__new__", "__init_subclass__", "__class_getitem__")
_WANTED = "a plain function, method, staticmethod or classmethod"
MISSING = object()


@dataclass(frozen=True, eq=False)
class Target:
    """holder: module or class. raw: the value in the `__dict__` of the holder or, if not `own`, of a base class.
    function: what is called in the end, without its descriptor."""

    path: str
    holder: Any
    name: str
    raw: Any
    own: bool

    @property
    def function(self) -> Function:
        """The function under the descriptor."""
        return unwrapped(self.raw)

    def current(self) -> Any:
        """The raw value in the holder's own `__dict__` now, MISSING if there is none."""
        return vars(self.holder).get(self.name, MISSING)


def resolve(path: str) -> Target:
    """Import what `path` names. PatchRefused for anything that cannot be wrapped without changing what it is."""
    holder_path, _, name = path.rpartition(".")
    try:
        holder = imported(holder_path)
        on_demand.run(holder)
    except Exception as error:
        raise PatchRefused(path, f"{holder_path} to import", told(error)) from error
    if not isinstance(holder, types.ModuleType | type):
        raise PatchRefused(path, "a member of a module or class", f"a member of a {type(holder).__name__}")
    own = name in vars(holder)
    raw = vars(holder)[name] if own else _inherited(holder, name)
    if raw is MISSING:
        raise PatchRefused(path, _WANTED, "nothing of that name")
    if reason := _unfit(name, raw):
        raise PatchRefused(path, _WANTED, reason)
    return Target(path, holder, name, raw, own)


def imported(path: str) -> Any:
    """What a dotted path names: modules as far as there are modules, attributes after that. A module that is there and
    fails to import raises its own error (pkgutil.resolve_name would ask its package for an attribute of that name, and
    the reason would be lost)."""
    names = path.split(".")
    found: Any = importlib.import_module(names[0])
    for end, name in enumerate(names[1:], start=2):
        module = ".".join(names[:end])
        if isinstance(found, types.ModuleType) and _is_module(found, module):
            found = importlib.import_module(module)
        elif hasattr(found, name):
            found = getattr(found, name)
        else:
            raise ImportError(f"{'.'.join(names[: end - 1])} has no {name}")
    return found


def _is_module(package: types.ModuleType, path: str) -> bool:
    return path in sys.modules or (hasattr(package, "__path__") and importlib.util.find_spec(path) is not None)


def told(error: BaseException) -> str:
    """An error in one line: its class, the first line of what it says, and the library that the loader missed."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    missed = [line for line in lines[1:] if "cannot open shared object" in line]
    return ": ".join([type(error).__name__, *lines[:1], *missed[:1]])


def unwrapped(raw: Any) -> Any:
    """`raw` without a staticmethod or classmethod around it."""
    return raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw


def forwarder(target: Target) -> Any:
    """A raw attribute for the holder's own `__dict__` that calls, each time, what the holder inherits just then.

    sglang's registry loses the descriptor of an inherited static or class method, and would freeze today's base
    method into the subclass; with a forwarder in place it meets an own attribute of the right kind.
    """
    holder, name, raw = target.holder, target.name, target.raw
    if isinstance(raw, staticmethod):

        @functools.wraps(raw.__func__)
        def call_static(*args: Any, **kwargs: Any) -> Any:
            return getattr(super(holder, holder), name)(*args, **kwargs)

        return staticmethod(call_static)

    @functools.wraps(target.function)
    def call_bound(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, type if isinstance(raw, classmethod) else holder):
            return getattr(super(holder, self), name)(*args, **kwargs)
        return getattr(super(holder, holder), name)(self, *args, **kwargs)

    return classmethod(call_bound) if isinstance(raw, classmethod) else call_bound


def is_context_manager_function(function: Function) -> bool:
    """Whether it was made by contextlib.contextmanager."""
    code = getattr(function, "__code__", None)
    made_by = getattr(code, "co_filename", "").endswith("contextlib.py")
    return made_by and inspect.isgeneratorfunction(getattr(function, "__wrapped__", None))


def _inherited(holder: Any, name: str) -> Any:
    bases = holder.__mro__[1:] if isinstance(holder, type) else ()
    return next((vars(base)[name] for base in bases if name in vars(base)), MISSING)


def _unfit(name: str, raw: Any) -> str | None:
    function = unwrapped(raw)
    if isinstance(raw, type):
        return "a class; hook one of its methods"
    if hasattr(type(function), "__getitem__"):
        return f"a subscriptable {type(function).__name__} (a triton.jit kernel stops launching once wrapped)"
    if not isinstance(function, _PLAIN) or name in _SPECIAL:
        return f"a {type(function).__name__}" if name not in _SPECIAL else f"{name}, which Python treats specially"
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return "a coroutine function"
    return None
