"""What must hold of a prefix tree that shows slots and no nodes: one that claims SWA K/V has it, one that has given it
up has none, the prefix that a request locks is locked and stays what the request reads, and nothing else is locked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from g4diag.fuzz.cache_machine import CacheMachine
from g4diag.model import BoolArray, IntArray
from g4diag.stack.drive import unified_tree
from g4diag.stack.drive.request_state import protected_len

_ALIVE, _DEAD = 1, 2  # of a slot that the tree has: with SWA K/V, without; 0: it has it not


class SlotTree:
    """The tree of a machine's server."""

    def __init__(self, machine: CacheMachine) -> None:
        self.machine, self.cache = machine, machine.server.cache
        self._slots = len(machine.mapping())
        self._was_M = np.zeros(self._slots, dtype=np.int8)
        self._found = self._ask(unified_tree.slots)

    def check(self) -> None:
        """Claims of the machine's. What is seen here is what `cached` tells until the next time."""
        self._found = found = self._ask(unified_tree.slots)
        self._count(found)
        self._check_slots(found)
        held = {req.rid: self._ask(unified_tree.held, req) for req in self.machine.reqs.values()}
        self._check_locks(found, held)
        for req in self.machine.holders():
            self._check_row(req, held[req.rid])

    def known_stale(self, req: Any, start: int) -> BoolArray:
        """bool[start]: none; no defect is known."""
        return np.zeros(start, dtype=np.bool_)

    def cached(self) -> Iterator[tuple[object, IntArray, bool]]:
        """(whose, full slots, whether they claim SWA slots) of the tree, in two parts."""
        found = self._found
        yield "the tree, where it has SWA K/V", found.full_N[found.has_swa_N], True
        yield "the tree, where it has none", found.full_N[~found.has_swa_N], False

    def _ask(self, question: Callable[..., Any], *args: Any) -> Any:
        """sglang walks its tree."""
        return self.machine.session.timed(question, self.cache, *args)

    def _check_slots(self, found: unified_tree.Slots) -> None:
        claim, page = self.machine.claim, self.machine.page_size
        counts = np.bincount(found.full_N // page)
        broken = np.flatnonzero((counts != 0) & (counts != page))
        claim("tree_is_whole_pages", not len(broken), lambda: f"pages {broken} are not")
        is_mapped_N = self.machine.mapping()[found.full_N] > 0
        stray_N = found.full_N[is_mapped_N & ~found.has_swa_N]
        claim("tombstone_has_no_swa", not len(stray_N), lambda: f"slots {stray_N} are of tombstones and mapped")
        lost_N = found.full_N[~is_mapped_N & found.has_swa_N]
        if len(lost_N):
            self._read_as_next(lost_N)
        claim("live_node_is_mapped", not len(lost_N), lambda: f"slots {lost_N} claim SWA slots and have none")

    def _read_as_next(self, lost_N: IntArray) -> None:
        """Hand the next request with a prefix of tokens that were here before, and that ends at a slot which claims an
        SWA slot and has none, what the tree has for it, and let the trap say what that request will read. The tree may
        be changed: a claim is broken already."""
        machine = self.machine
        running = ([*req.origin_input_ids, *req.output_ids] for req in machine.reqs.values())
        for tokens in (*machine.texts, *running):
            slots_N = machine.call(unified_tree.match_prefix, self.cache, tokens)
            at = np.flatnonzero(np.isin(slots_N, lost_N))
            if len(at):
                row_N = np.append(slots_N[: int(at[-1]) + 1], 0)
                machine.read(["next"], [row_N], "extend", np.array([len(row_N)]), 1)

    def _check_locks(self, found: unified_tree.Slots, held: dict[str, IntArray]) -> None:
        claim, window = self.machine.claim, self.machine.shape.window
        locked_N = found.full_N[found.full_locked_N]
        wanted_M, locked_M = self._marked(held.values()), self._marked([locked_N])
        same = len(locked_N) == np.count_nonzero(wanted_M) and np.array_equal(locked_M, wanted_M)
        claim(
            "locks_are_balanced",
            same,
            lambda: f"slots {np.flatnonzero(locked_M ^ wanted_M)} are locked or held alone, or locked twice",
        )
        has_swa_M = self._marked([found.full_N[found.has_swa_N]])
        swa_locked_M = self._marked([found.full_N[found.swa_locked_N]])
        keepers: list[IntArray] = []
        for req in self.machine.reqs.values():
            if unified_tree.gave_up_swa_lock(req):
                self.machine.cover("gave_up_swa_lock")
                continue
            keepers.append(held[req.rid])
            due_N = held[req.rid][-window:]
            loose = int(np.count_nonzero(has_swa_M[due_N] & ~swa_locked_M[due_N]))
            if loose:
                claim("window_is_locked", False, f"{req.rid} does not lock {loose} slots of its window")
        stray_N = np.flatnonzero(swa_locked_M & ~self._marked(keepers))
        claim("locks_are_balanced", not len(stray_N), lambda: f"SWA slots of {stray_N} are locked for nobody")
        self.machine.cover("shared_lock", bool(sum(map(len, held.values())) > np.count_nonzero(wanted_M)))

    def _marked(self, parts: Iterable[IntArray]) -> BoolArray:
        """bool[M]: the full slots that are in any of these."""
        is_in_M = np.zeros(self._slots, dtype=np.bool_)
        for slots_N in parts:
            is_in_M[slots_N] = True
        return is_in_M

    def _check_row(self, req: Any, held_N: IntArray) -> None:
        claim, mapping_M = self.machine.claim, self.machine.mapping()
        protected = protected_len(req)
        if protected > len(held_N):  # a text is made for a claim that does not hold
            claim("prefix_is_locked", False, f"{req.rid} shares {protected}, locks {len(held_N)} tokens")
        if differs := int(np.count_nonzero(self.machine.row(req)[:protected] != held_N[:protected])):
            claim("locked_prefix_stays", False, f"{req.rid} reads {differs} slots other than the tree's")
        for node, full_N, swa_N in self._ask(unified_tree.node_values, req):
            if not np.array_equal(mapping_M[full_N], swa_N):
                claim("node_says_what_is_mapped", False, f"node {node} has SWA slots that its full ones do not map to")

    def _count(self, found: unified_tree.Slots) -> None:
        """What became of the slots since the last look."""
        was_M, cover = self._was_M, self.machine.cover
        self._was_M = now_M = np.zeros(self._slots, dtype=np.int8)
        now_M[found.full_N] = np.where(found.has_swa_N, _ALIVE, _DEAD)
        became_N = 3 * was_M + now_M
        turns = np.bincount(became_N, minlength=9)
        cover("deleted", bool(turns[3 * _ALIVE] or turns[3 * _DEAD]))
        cover("tombstoned", bool(turns[3 * _ALIVE + _DEAD]))
        cover("inserted_tombstone", bool(turns[_DEAD]))
        cover("recovered", bool(turns[3 * _DEAD + _ALIVE]))
        if turns[3 * _DEAD + _ALIVE]:
            kept_N = found.full_N[found.full_locked_N & found.has_swa_N]
            cover("recovered_under_lock", bool((was_M[kept_N] == _DEAD).any()))
        cover("bigrams", bool(len(found.full_N)) and self.machine.shape.eagle)
