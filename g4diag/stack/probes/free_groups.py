"""A MappingUpdate at the end of a free group in which slots were mapped anew: what was mapped last must stand.

Between `free_group_begin` and `free_group_end` frees may wait. Where they wait by full slot, and the slot is given
another SWA slot meanwhile, the end looks up the new one and frees it under its owner (sglang #36646, #36135). Only what
is mapped in a group is written down, and only what is freed after that, so most groups cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.model import MappingUpdate
from g4diag.stack.probes.async_copies import Arrivals
from g4diag.stack.releases import current

CALL = "free_group_end"
_UNMAP = ("free", "free_swa", "free_segment", "free_swa_segment", "clear_full_to_swa_mapping")
_Event = tuple[Any, Any]  # full slots; the SWA slots they were given, None where they were freed


class FreeGroups:
    """sink takes each view."""

    def __init__(self, sink: Callable[[MappingUpdate], None], arrivals: Arrivals) -> None:
        self._sink, self._arrivals = sink, arrivals
        self._open: WeakKeyDictionary[Any, list[_Event]] = WeakKeyDictionary()
        self._ending: WeakKeyDictionary[Any, list[_Event]] = WeakKeyDictionary()

    def hooks(self) -> list[Hook]:
        """Both ends of a group, and what maps and unmaps in between."""
        release = current()
        places: list[tuple[str, Callable[..., None]]] = [("set_full_to_swa_mapping", self._was_set)]
        places += [(call, self._was_freed) for call in _UNMAP if release.has(f"swa.{call}")]
        hooks = [release.hook(f"swa.{call}", "after", function) for call, function in places]
        ends = [
            release.hook("swa.free_group_begin", "after", self._begun),
            release.hook(f"swa.{CALL}", "before", self._ends),
            release.hook(f"swa.{CALL}", "after", self._ended),
        ]
        return [*hooks, *ends]

    def _begun(self, result: Any, owner: Any) -> None:
        if hasattr(owner, "full_to_swa_index_mapping"):  # early releases have one group for every kind of allocator
            self._open[owner] = []

    def _was_set(self, result: Any, owner: Any, full: Any, swa: Any) -> None:
        if (events := self._open.get(owner)) is not None and full.numel():
            events.append((full.clone(), swa.clone()))

    def _was_freed(self, result: Any, owner: Any, full: Any, *args: Any, **kwargs: Any) -> None:
        if events := self._open.get(owner):
            events.append((full.clone(), None))

    def _ends(self, owner: Any) -> None:
        # What the end itself frees was asked for before.
        self._ending[owner] = self._open.pop(owner, [])

    def _ended(self, result: Any, owner: Any) -> None:
        if not (events := self._ending.pop(owner, [])):
            return
        mapping, page = owner.full_to_swa_index_mapping, owner.page_size
        was_set = [swa is not None for _, swa in events]
        tensors = [part for full, swa in events for part in (full, full if swa is None else swa)]

        def arrived(*arrays_N: Any) -> None:
            given, *found = arrays_N[: len(tensors)], *arrays_N[len(tensors) :]
            with guard("judging the end of a free group"):
                self._judge(list(zip(was_set, given[::2], given[1::2], strict=True)), found, page)

        self._arrivals.copy([*tensors, *(mapping[full] for full, swa in events if swa is not None)], arrived)

    def _judge(self, events: list[tuple[bool, Any, Any]], found: list[Any], page: int) -> None:
        mapped: dict[int, int] = {}
        wanted: dict[int, int] = {}
        readings = iter(found)
        for was_set, full_N, swa_N in events:
            if was_set:
                wanted |= dict(zip(full_N.tolist(), swa_N.tolist(), strict=True))
                mapped |= dict(zip(full_N.tolist(), next(readings).tolist(), strict=True))
            else:  # any slot of a page frees it
                freed = set((full_N // page).tolist())
                wanted = {slot: swa for slot, swa in wanted.items() if slot // page not in freed}
        if wanted:
            columns = [list(wanted), list(wanted.values()), [mapped[slot] for slot in wanted]]
            self._sink(MappingUpdate(CALL, *(np.array(column, dtype=np.int64) for column in columns)))
