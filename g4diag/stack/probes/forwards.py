"""Which forward of a known attention backend is at work, for probes of what it calls: a kernel, or a pool's write."""

from __future__ import annotations

from typing import Any, NamedTuple

from g4diag.hooks.install import Hook
from g4diag.stack.backends.contract import Attention, hook


class Forward(NamedTuple):
    """A call that runs a layer."""

    backend: Any
    layer: Any
    forward_batch: Any


class Forwards:
    """now: the innermost forward at work, None outside of one."""

    def __init__(self, attentions: tuple[Attention, ...]) -> None:
        self._attentions = attentions
        self._open: list[Forward] = []

    @property
    def now(self) -> Forward | None:
        return self._open[-1] if self._open else None

    def hooks(self) -> list[Hook]:
        """The forwards of every backend, one that several inherit once."""
        points = dict.fromkeys(point for each in self._attentions for point in each.forwards)
        return [hook(point, "around", self._within) for point in points]

    def _within(self, original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
        # q, k, v, layer, forward_batch: upstream hands the first five by position.
        self._open.append(Forward(backend, *args[3:5]))
        try:
            return original(backend, *args, **kwargs)
        finally:
            self._open.pop()
