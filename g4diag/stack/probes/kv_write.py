"""A KVWrite of every K/V write while a frozen-KV view is open: the draft reads the target's pool there.

Attributes only, so it may run while a graph is captured; inside a replay there is no Python, but what a replay writes
was captured here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.model import KVWrite
from g4diag.stack.probes.pool_swap import VIEW_NAMES, VIEWS
from g4diag.stack.probes.workers import BACKEND, Backends

_POOLS = (
    "sglang.srt.mem_cache.swa_memory_pool.SWAKVPool",
    "sglang.srt.mem_cache.memory_pool.MHATokenToKVPool",
)


class KVWriteProbe:
    """sink takes each view."""

    def __init__(self, backends: Backends, sink: Callable[[KVWrite], None]) -> None:
        self._backends, self._sink = backends, sink
        self._open: list[str] = []

    def hooks(self) -> list[Hook]:
        """Both views, the pools' writes, and the backend's own write of FP8 K/V, which goes round the pools."""
        views = [Hook(f"{VIEWS}.{name}", "around", self._view(name), observes=True) for name in VIEW_NAMES]
        writes = [Hook(f"{pool}.set_kv_buffer", "before", self._written, observes=True) for pool in _POOLS]
        fused = Hook(f"{BACKEND}._fused_fp8_set_kv_buffer", "before", self._fused, observes=True)
        return [*views, *writes, fused]

    def _view(self, name: str) -> Callable[..., Any]:
        @contextmanager
        def observed(original: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
            with original(*args, **kwargs) as value:
                self._open.append(name)
                try:
                    yield value
                finally:
                    self._open.pop()

        return observed

    def _written(self, pool: Any, layer: Any, loc: Any, *args: Any, **kwargs: Any) -> None:
        # Without a layer it is an SWAKVPool's write handed down to one of its two, seen already.
        if self._open and layer is not None:
            self._emit(pool, layer, len(loc))

    def _fused(self, backend: Any, q: Any, k: Any, v: Any, layer: Any, *args: Any, **kwargs: Any) -> None:
        if self._open:
            self._emit(backend.token_to_kv_pool, layer, len(k))

    def _emit(self, pool: Any, layer: Any, tokens: int) -> None:
        self._sink(KVWrite(self._open[-1], str(self._backends.label(pool)), int(layer.layer_id), tokens))
