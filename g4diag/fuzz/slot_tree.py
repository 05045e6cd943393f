"""What must hold of a prefix tree that shows slots and no nodes: one that claims SWA K/V has it, one that has given it
up has none, the prefix that a request locks is locked and stays what the request reads, and nothing else is locked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from g4diag.fuzz.cache_machine import CacheMachine
from g4diag.model import BoolArray, IntArray
from g4diag.stack.drive import unified_tree
from g4diag.stack.drive.request_state import protected_len


class SlotTree:
    """The tree of a machine's server."""

    def __init__(self, machine: CacheMachine) -> None:
        self.machine, self.cache = machine, machine.server.cache
        self._was: dict[int, bool] = {}

    def check(self) -> None:
        """Claims of the machine's."""
        found = unified_tree.slots(self.cache)
        self._count(found)
        self._check_slots(found)
        held = {req.rid: unified_tree.held(self.cache, req) for req in self.machine.reqs.values()}
        self._check_locks(found, held)
        for req in self.machine.holders():
            self._check_row(req, held[req.rid])

    def known_stale(self, req: Any, start: int) -> BoolArray:
        """bool[start]: none; no defect is known."""
        return np.zeros(start, dtype=np.bool_)

    def cached(self) -> Iterator[tuple[str, IntArray, bool]]:
        """(whose, full slots, whether they claim SWA slots) of the tree, in two parts."""
        found = unified_tree.slots(self.cache)
        yield "the tree, where it has SWA K/V", found.full_N[found.has_swa_N], True
        yield "the tree, where it has none", found.full_N[~found.has_swa_N], False

    def _check_slots(self, found: unified_tree.Slots) -> None:
        claim, page = self.machine.claim, self.machine.page_size
        pages, counts = np.unique(found.full_N // page, return_counts=True)
        claim("tree_is_whole_pages", bool((counts == page).all()), lambda: f"pages {pages[counts != page]} are not")
        is_mapped_N = self.machine.mapping()[found.full_N] > 0
        stray_N = found.full_N[is_mapped_N & ~found.has_swa_N]
        claim("tombstone_has_no_swa", not len(stray_N), lambda: f"slots {stray_N} are of tombstones and mapped")
        lost_N = found.full_N[~is_mapped_N & found.has_swa_N]
        claim("live_node_is_mapped", not len(lost_N), lambda: f"slots {lost_N} claim SWA slots and have none")

    def _check_locks(self, found: unified_tree.Slots, held: dict[str, IntArray]) -> None:
        claim, window = self.machine.claim, self.machine.shape.window
        wanted_N = np.unique(_together(held.values()))
        locked_N = np.sort(found.full_N[found.full_locked_N])
        same = np.array_equal(locked_N, wanted_N)
        claim("locks_are_balanced", same, lambda: f"slots {np.setxor1d(locked_N, wanted_N)} are locked or held alone")
        swa_locked_N, has_swa_N = found.full_N[found.swa_locked_N], found.full_N[found.has_swa_N]
        keepers: list[IntArray] = []
        for req in self.machine.reqs.values():
            if unified_tree.gave_up_swa_lock(req):
                self.machine.cover("gave_up_swa_lock")
                continue
            keepers.append(held[req.rid])
            due_N = np.intersect1d(held[req.rid][-window:], has_swa_N)
            loose_N = np.setdiff1d(due_N, swa_locked_N)
            claim("window_is_locked", not len(loose_N), f"{req.rid} does not lock {len(loose_N)} slots of its window")
        stray_N = np.setdiff1d(swa_locked_N, _together(keepers))
        claim("locks_are_balanced", not len(stray_N), lambda: f"SWA slots of {stray_N} are locked for nobody")
        self.machine.cover("shared_lock", sum(map(len, held.values())) > len(wanted_N))

    def _check_row(self, req: Any, held_N: IntArray) -> None:
        claim, mapping_M = self.machine.claim, self.machine.mapping()
        protected = protected_len(req)
        claim("prefix_is_locked", protected <= len(held_N), f"{req.rid} shares {protected}, locks {len(held_N)} tokens")
        differs = int((self.machine.row(req)[:protected] != held_N[:protected]).sum())
        claim("locked_prefix_stays", not differs, f"{req.rid} reads {differs} slots other than the tree's")
        for node, full_N, swa_N in unified_tree.node_values(self.cache, req):
            same = np.array_equal(mapping_M[full_N], swa_N)
            claim("node_says_what_is_mapped", same, f"node {node} has other SWA slots than its full ones are mapped to")

    def _count(self, found: unified_tree.Slots) -> None:
        """What became of the slots since the last look."""
        was, cover = self._was, self.machine.cover
        self._was = now = dict(zip(found.full_N.tolist(), (~found.has_swa_N).tolist(), strict=True))
        cover("deleted", any(slot not in now for slot in was))
        cover("tombstoned", any(dead and was.get(slot) is False for slot, dead in now.items()))
        cover("inserted_tombstone", any(dead and slot not in was for slot, dead in now.items()))
        cover("recovered", any(not dead and was.get(slot) is True for slot, dead in now.items()))
        cover("bigrams", bool(now) and self.machine.shape.eagle)


def _together(parts: Iterable[IntArray]) -> IntArray:
    return np.concatenate([*parts, np.zeros(0, dtype=np.int64)])
