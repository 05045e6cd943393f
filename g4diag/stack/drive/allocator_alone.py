"""sglang's SWA allocator over its pool, and nothing of sglang that runs a model: what that needs, and what it must not
meet."""

from __future__ import annotations

import sys
from typing import Any
from weakref import WeakSet

from g4diag.hooks.install import Hook
from g4diag.hooks.on_demand import put_off
from g4diag.model import PoolView
from g4diag.stack import backends
from g4diag.stack.probes.pools import pool_views
from g4diag.stack.releases import current

# A module or two of theirs is wanted, and what else their `__init__` imports is not: the language, the configuration of
# every model, every way to quantize weights, and with them transformers and flashinfer.
_PACKAGES = ("sglang", "sglang.srt.configs", "sglang.srt.layers.quantization")
_RUNS_MODELS = "sglang.srt.model_executor.model_runner"


def prepare() -> None:
    """For a process that drives an allocator alone and ends: before its first import of sglang."""
    put_off(_PACKAGES)


def runs_models() -> frozenset[str]:
    """Modules of sglang, imported by now, whose calls only the probes of backends would see."""
    of_backends = {attention.backend.rpartition(".")[0] for attention in backends.known()}
    return frozenset((of_backends | {_RUNS_MODELS}) & sys.modules.keys())


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
