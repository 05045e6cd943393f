"""A MappingUpdate after each call of a hybrid-SWA allocator that hands out slots or frees them.

The SWA slots of a call are seen as its SWA sub-allocator returns them. The mapping is gathered on the device, only at
the call's slots. A free in a free group changes nothing yet, and is seen at the group's end; so is free_swa, where a
release puts it off.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.model import IntArray, MappingUpdate
from g4diag.stack.probes.async_copies import Arrivals
from g4diag.stack.releases import current

CALLS = ("alloc", "alloc_extend", "alloc_decode")
TAIL = "alloc_extend_swa_tail"
_JUDGING = guard("judging a mapping update")


class MappingUpdateProbe:
    """sink takes each view. handed: a sub-allocator -> what it returned last, once."""

    def __init__(self, sink: Callable[[MappingUpdate], None], arrivals: Arrivals, handed: Callable[[Any], Any]) -> None:
        self._sink, self._arrivals, self._handed = sink, arrivals, handed
        self._freed: Any = None

    def hooks(self) -> list[Hook]:
        """The owner's calls."""
        functions: dict[str, Callable[..., None]] = {call: self._after(call) for call in (*CALLS, TAIL)}
        functions |= {"free": self._after_free, "free_swa": self._after_free_swa}
        release = current()
        if release.has("swa.free_swa_segment"):
            functions["free_swa_segment"] = self._after_free_segment
        return [release.hook(f"swa.{name}", "after", function) for name, function in functions.items()]

    def _after(self, call: str) -> Callable[..., None]:
        def observed(full: Any, owner: Any, *args: Any, **kwargs: Any) -> None:
            swa = self._handed(owner.swa_attn_allocator)
            tail = (args[6] if len(args) > 6 else kwargs["swa_tail_len"]) if call == TAIL else None
            if full is not None and swa is not None and tail != 0:
                self._update(call, owner, full, swa)

        return observed

    def _after_free(self, result: Any, owner: Any, free_index: Any) -> None:
        # Upstream's free calls free_swa with the same tensor; one look is enough.
        if free_index.numel() and not current().read.is_deferred(owner) and free_index is not self._freed:
            self._update("free", owner, free_index)
        self._freed = None

    def _after_free_swa(self, result: Any, owner: Any, free_index: Any) -> None:
        if free_index.numel() and not current().read.is_swa_deferred(owner):
            self._update("free_swa", owner, free_index)
            self._freed = free_index

    def _after_free_segment(self, result: Any, owner: Any, free_index: Any, *args: Any, **kwargs: Any) -> None:
        if free_index.numel():
            self._update("free_swa_segment", owner, free_index)

    def _update(self, call: str, owner: Any, full: Any, swa: Any = None) -> None:
        """swa: what was handed out with the last of them; None for a free."""
        more = () if swa is None else (swa,)
        self._arrivals.copy_mapped(full, owner.full_to_swa_index_mapping, partial(self._judge, call), *more)

    def _judge(self, call: str, full_N: IntArray, mapped_N: IntArray, swa_N: IntArray | None = None) -> None:
        with _JUDGING:
            if swa_N is None:
                swa_N = np.zeros(len(full_N), dtype=np.int64)
            elif before := len(full_N) - len(swa_N):
                # Only the tail of a call may have SWA slots; what comes before is unmapped.
                swa_N = np.concatenate([np.zeros(before, dtype=np.int64), swa_N])
            self._sink(MappingUpdate(call, full_N, swa_N, mapped_N))
