"""Packages whose `__init__` runs when somebody asks for a name of theirs, and not when a module of theirs is imported.

sglang's own packages import everything below them: its memory pools need one file of `sglang.srt.configs` and get the
configuration of every model, with transformers. A package on demand is sglang's own in every respect but this one. The
first name that is not there yet runs its `__init__`, on the same module object, and from then on it is a package as
any other.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_RUNNING = threading.RLock()


def put_off(packages: Iterable[str]) -> None:
    """For the rest of this process, those of these packages that were not imported yet are on demand."""
    sys.meta_path.insert(0, _Finder(frozenset(packages)))


def waiting() -> list[str]:
    """Packages that are in sys.modules and whose `__init__` nobody has needed."""
    return sorted(name for name, module in list(sys.modules.items()) if isinstance(module, OnDemand))


def run(module: Any) -> None:
    """Run its `__init__` now, for whoever is about to read `vars(module)`. Nothing for what is not on demand."""
    with _RUNNING:
        if isinstance(module, OnDemand):
            spec = module.__spec__
            assert spec is not None and spec.loader is not None
            module.__class__ = ModuleType  # type: ignore[assignment]
            try:
                spec.loader.exec_module(module)
            except BaseException:
                module.__class__ = OnDemand
                raise


class OnDemand(ModuleType):
    """A package whose `__init__` has not run."""

    def __getattr__(self, name: str) -> Any:
        run(self)
        return getattr(self, name)


class _Finder(MetaPathFinder):
    def __init__(self, packages: frozenset[str]) -> None:
        self._packages = packages

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self._packages:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((found for finder in others if (found := finder.find_spec(name, path, target))), None)
        if spec is not None and spec.loader is not None and spec.submodule_search_locations is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Makes the module as the package's own loader does, and gives it back to that."""

    def __init__(self, own: Loader) -> None:
        self._own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._own
        module.__class__ = OnDemand
