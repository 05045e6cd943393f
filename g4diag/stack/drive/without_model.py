"""sglang's allocators, its scheduler's policy and a backend's plans, and nothing of sglang that runs a model: what that
needs, and what it must not meet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from g4diag.hooks.install import Hook
from g4diag.hooks.on_demand import put_off
from g4diag.model import PoolView, View
from g4diag.stack import backends
from g4diag.stack.backends.contract import hook
from g4diag.stack.probes.pools import pool_views
from g4diag.stack.probes.workers import Backends
from g4diag.stack.releases import current

# A module or two of theirs is wanted, and what else their `__init__` imports is not: the language, the configuration of
# every model, every way to quantize weights, and with them transformers and flashinfer.
_PACKAGES = ("sglang", "sglang.srt.configs", "sglang.srt.layers.quantization")
# Requests, batches and backends import a function or a class of each, for models and grammars that are not here.
_MODULES = (
    "sglang.srt.configs.hybrid_arch",
    "sglang.srt.configs.model_config",
    "sglang.srt.layers.logits_processor",
    "sglang.srt.parser.reasoning_parser",
)
_RUNS_MODELS = "sglang.srt.model_executor.model_runner"


def prepare() -> None:
    """For a process that runs no model and ends: before its first import of sglang."""
    put_off(_PACKAGES, _MODULES)


def runs_models() -> frozenset[str]:
    """Modules of sglang, imported by now, whose calls only the probes of backends would see."""
    return frozenset(({_module(attention) for attention in backends.known()} | {_RUNS_MODELS}) & sys.modules.keys())


def _module(attention: backends.Attention) -> str:
    return attention.backend.rpartition(".")[0]


class Pools:
    """The pools of the allocators that are built while it is hooked."""

    def __init__(self) -> None:
        self._built: WeakSet[Any] = WeakSet()

    def hooks(self) -> list[Hook]:
        """The hybrid allocator's constructor."""
        return [current().hook("swa.built", "after", self._take)]

    def now(self) -> tuple[PoolView, ...]:
        """(full, SWA) with their free lists, of one that is alive; none before one was built."""
        for allocator in list(self._built):
            return pool_views(allocator.get_kvcache(), allocator)
        return ()

    def _take(self, result: Any, allocator: Any, *args: Any, **kwargs: Any) -> None:
        self._built.add(allocator)


class Planning:
    """Backends that are built and plan, and of which no forward is run. names: of their files. modules: of sglang.
    ran: their forwards that were called, which nobody looked at."""

    def __init__(self, names: tuple[str, ...], sink: Callable[[View], None]) -> None:
        self._attentions = tuple(attention for attention in backends.known() if attention.name in names)
        self._workers = Backends(sink, attentions=self._attentions)
        self.modules = frozenset(map(_module, self._attentions))
        self.ran: set[str] = set()

    def hooks(self) -> list[Hook]:
        """The constructors, as with every probe, and the forwards."""
        forwards = {point.path: point for attention in self._attentions for point in attention.forwards}
        asked = [hook(point, "before", self._noting(path)) for path, point in forwards.items()]
        return [*self._workers.hooks(), *asked] if self._attentions else []

    def _noting(self, path: str) -> Callable[..., None]:
        def note(*args: Any, **kwargs: Any) -> None:
            self.ran.add(path)

        return note
