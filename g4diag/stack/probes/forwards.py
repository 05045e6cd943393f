"""Which forward of a TRTLLMHAAttnBackend is at work, for probes of what it calls: a kernel, or a pool's write."""

from __future__ import annotations

from typing import Any, NamedTuple

from g4diag.hooks.install import Hook
from g4diag.stack.probes.workers import BACKEND


class Forward(NamedTuple):
    """A call of `forward_decode` or `forward_extend`."""

    backend: Any
    layer: Any
    forward_batch: Any


class Forwards:
    """now: the innermost forward at work, None outside of one."""

    def __init__(self) -> None:
        self._open: list[Forward] = []

    @property
    def now(self) -> Forward | None:
        return self._open[-1] if self._open else None

    def hooks(self) -> list[Hook]:
        """Both forwards of the backend."""
        names = ("forward_decode", "forward_extend")
        return [Hook(f"{BACKEND}.{name}", "around", self._within, observes=True) for name in names]

    def _within(self, original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
        # q, k, v, layer, forward_batch: upstream hands the first five by position.
        self._open.append(Forward(backend, *args[3:5]))
        try:
            return original(backend, *args, **kwargs)
        finally:
            self._open.pop()
