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
from g4diag.stack.backends.contract import Write, hook
from g4diag.stack.probes.contract import Context, Probe
from g4diag.stack.probes.forwards import Forwards
from g4diag.stack.probes.pool_swap import VIEW_NAMES
from g4diag.stack.probes.workers import Backends
from g4diag.stack.releases import current


class KVWriteProbe:
    """sink takes each view."""

    def __init__(self, backends: Backends, sink: Callable[[KVWrite], None]) -> None:
        self._backends, self._sink = backends, sink
        self._open: list[str] = []
        self._forwards = Forwards(backends.attentions)

    def hooks(self) -> list[Hook]:
        """Both views, the pools' writes, and the backends' own, which go round the pools."""
        release, attentions = current(), self._backends.attentions
        return [
            *self._forwards.hooks(),
            *(release.hook(f"view.{name}", "around", self._view(name)) for name in VIEW_NAMES),
            release.hook("pool.hybrid_write", "before", self._written),
            release.hook("pool.plain_write", "before", self._written),
            *(hook(write.point, "before", self._own(write)) for each in attentions for write in each.writes_here()),
        ]

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
            full, _ = current().read.write_slots(loc, args, kwargs)
            self._emit(pool, layer, len(full))

    def _own(self, write: Write) -> Callable[..., None]:
        def written(*args: Any, **kwargs: Any) -> None:
            forward, slots = self._forwards.now, write.slots(*args, **kwargs)
            if self._open and forward and slots is not None:
                self._emit(forward.backend.token_to_kv_pool, forward.layer, len(slots))

        return written

    def _emit(self, pool: Any, layer: Any, tokens: int) -> None:
        self._sink(KVWrite(self._open[-1], str(self._backends.label(pool)), int(layer.layer_id), tokens))


def _make(context: Context, wanted: frozenset[type]) -> KVWriteProbe:
    return KVWriteProbe(context.workers, context.sink)


PROBE = Probe("kv_write", frozenset({KVWrite}), _make)
