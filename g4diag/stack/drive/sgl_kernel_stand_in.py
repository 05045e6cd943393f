"""A stand-in for `sgl_kernel` where its library cannot be loaded: its names can be imported, and none can be called.

On the CPU engine sglang from 0.5.16 on imports `sgl_kernel` at the top of modules that everything needs (the memory
pools, the speculative kernels), and sgl_kernel's library needs libcuda. Nothing that is driven here calls into it.
Earlier releases do without, and take its absence for what it is: there it stays absent.
Nothing is imported until sglang asks; then the real package is tried first, and its pure Python submodules (scalar
types, say) are the real ones in either case.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from g4diag.errors import CannotRunError
from g4diag.hooks.anchors import Anchor, pin
from g4diag.hooks.targets import told

logger = logging.getLogger(__name__)

_NAME = "sgl_kernel"
_IMPORTED_AT_THE_TOP = Anchor("sglang.kernels.ops.kvcache.cache_move", f"from {_NAME} import")


def install() -> bool:
    """From now on importing sgl_kernel gives the stand-in where the real one cannot be loaded. False where this sglang
    does not need it, or it was imported before. May be called again."""
    if _NAME in sys.modules or not is_needed():
        return False
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    return True


def is_needed() -> bool:
    """Whether this sglang imports sgl_kernel wherever it is driven."""
    return bool(pin(_IMPORTED_AT_THE_TOP).count)


def is_in_place() -> bool:
    """Whether what `import sgl_kernel` gave is the stand-in."""
    return hasattr(sys.modules.get(_NAME), "__g4diag_stand_in__")


class Uncallable:
    """What stands for one of its functions."""

    def __init__(self, name: str, why: str) -> None:
        self._name, self._why = name, why

    def __repr__(self) -> str:
        return f"<stand-in for {_NAME}.{self._name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise CannotRunError(f"{_NAME}.{self._name}: wanted a machine that can load sgl_kernel, found {self._why}")


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _NAME:
            return None
        spec = PathFinder.find_spec(fullname, path) or ModuleSpec(_NAME, None, is_package=True)
        spec.loader = _RealOrStandIn(spec.loader)
        return spec


class _RealOrStandIn(Loader):
    def __init__(self, real: Loader | None) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec) if self._real else None

    def exec_module(self, module: ModuleType) -> None:
        try:
            if self._real is None:
                raise ImportError("no sgl_kernel installed")
            self._real.exec_module(module)
        except (ImportError, OSError) as error:
            why = told(error)
            logger.info("g4diag: sgl_kernel is a stand-in here: %s", why)

            def stand_in(name: str) -> Uncallable:
                if name.startswith("_"):
                    raise AttributeError(f"{_NAME} has no {name}")
                return Uncallable(name, why)

            vars(module).update(__getattr__=stand_in, __g4diag_stand_in__=why)
