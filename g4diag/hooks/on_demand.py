"""Packages and names that are imported when somebody needs them, and not when a module beside them is imported.

sglang's own packages import everything below them: its memory pools need one file of `sglang.srt.configs` and get the
configuration of every model, with transformers. A package on demand is sglang's own in every respect but this one. The
first name that is not there yet runs its `__init__`, on the same module object, and from then on it is a package as
any other.

A module on demand goes one step further: `from module import name` does not run it either, where its source defines a
function or a class of that name, but gets a promise. Whoever calls it, reads or sets an attribute of it, asks whether
something is one, or inherits from it, runs the module, and then every module that holds the promise holds what was
promised. Comparing a promise and taking its hash do not: annotations do both.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from g4diag.hooks.aliases import aliases_of

_RUNNING = threading.RLock()
_promises: dict[str, dict[str, Promise | None]] = {}  # module -> name -> what was handed out


def put_off(packages: Iterable[str], modules: Iterable[str] = ()) -> None:
    """For the rest of this process, those of these packages and modules that were not imported yet are on demand."""
    sys.meta_path.insert(0, _Finder(frozenset(packages), frozenset(modules)))


def waiting() -> list[str]:
    """Packages and modules that are in sys.modules and that nobody has needed."""
    return sorted(name for name, module in list(sys.modules.items()) if isinstance(module, OnDemand))


def run(module: Any) -> None:
    """Run it now, for whoever is about to read `vars(module)`. Nothing for what is not on demand."""
    with _RUNNING:
        if isinstance(module, OnDemand):
            spec, was = module.__spec__, type(module)
            assert spec is not None and spec.loader is not None
            module.__class__ = ModuleType  # type: ignore[assignment]
            try:
                spec.loader.exec_module(module)
            except BaseException:
                module.__class__ = was
                raise
            for name, promise in _promises.pop(module.__name__, {}).items():
                for holder, alias in [] if promise is None else aliases_of(promise):
                    vars(holder)[alias] = vars(module)[name]


class OnDemand(ModuleType):
    """A package or module that has not run."""

    def __getattr__(self, name: str) -> Any:
        promised = _promises.get(self.__name__, {})
        if name in promised:
            promised[name] = promised[name] or Promise(self, name)
            return promised[name]
        if name == "__path__":  # the import itself asks whether it is a package, and this would have one
            raise AttributeError(name)
        run(self)
        return getattr(self, name)


class Promise:
    """Stands for a function or a class of a module that has not run."""

    def __init__(self, module: ModuleType, name: str) -> None:
        vars(self).update(_module=module, _name=name)

    def _kept(self) -> Any:
        run(self._module)
        return vars(self._module)[self._name]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._kept()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._kept(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._kept(), name)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self._kept())

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self._kept())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._kept(),)

    def __or__(self, other: Any) -> Any:
        return self._kept() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._kept()


class _Finder(MetaPathFinder):
    def __init__(self, packages: frozenset[str], modules: frozenset[str]) -> None:
        self._packages, self._modules = packages, modules

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self._packages | self._modules:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((found for finder in others if (found := finder.find_spec(name, path, target))), None)
        if spec is None or spec.loader is None:
            return spec
        if name in self._modules:
            _promises[name] = dict.fromkeys(_defined_in(spec))
        if spec.submodule_search_locations is not None or _promises.get(name):
            spec.loader = _Loader(spec.loader)
        return spec


def _defined_in(spec: ModuleSpec) -> list[str]:
    source = getattr(spec.loader, "get_source", lambda name: None)(spec.name)
    return re.findall(r"^(?:class|def) (\w+)", source or "", re.MULTILINE)


class _Loader(Loader):
    """Makes the module as its own loader does, and gives it back to that."""

    def __init__(self, own: Loader) -> None:
        self._own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._own
        module.__class__ = OnDemand
