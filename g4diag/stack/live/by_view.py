"""Which traps judge a view, looked up by its class: a server makes views of a few classes, thousands of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from g4diag.traps.contract import Trap


class ByView:
    """Of these traps, in their order."""

    def __init__(self, traps: Sequence[Trap]) -> None:
        self._traps = tuple(traps)
        self._of: dict[type, tuple[Trap, ...]] = {}

    def of(self, view: Any) -> tuple[Trap, ...]:
        """Those that judge views of its class."""
        kind = type(view)
        if (found := self._of.get(kind)) is None:
            found = self._of[kind] = tuple(trap for trap in self._traps if isinstance(view, trap.judges))
        return found
