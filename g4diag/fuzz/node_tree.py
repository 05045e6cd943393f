"""What must hold of a radix tree whose nodes can be read: a node that claims SWA K/V has it, a tombstone has none, and
locks are held by the requests that are there, each on the path to its last node and, in the SWA pool, for a window of
it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from g4diag.fuzz.cache_machine import CacheMachine
from g4diag.model import BoolArray, IntArray
from g4diag.stack.drive import radix_tree
from g4diag.stack.drive.request_state import protected_len


class NodeTree:
    """The tree of a machine's server. tolerant: a defect of 0.5.13 that tests/fuzz pins is counted and no claim: an
    insert that recovers a tombstone frees its full slots under requests that hold its full lock."""

    def __init__(self, machine: CacheMachine, *, tolerant: bool) -> None:
        self.machine, self.cache, self.tolerant = machine, machine.server.cache, tolerant
        self._was: dict[int, bool] = {}

    def check(self) -> None:
        """Claims of the machine's."""
        nodes = self.nodes()
        self._count(nodes)
        for node in nodes:
            self._check_node(node)
        self._check_locks(nodes)
        self._check_rows()

    def known_stale(self, req: Any, start: int) -> BoolArray:
        """bool[start]: positions whose slots the pinned defect has freed."""
        stale_N = np.zeros(start, dtype=np.bool_)
        replaced_N = self._replaced(req)[:start]
        if self.tolerant:
            stale_N[: len(replaced_N)] = replaced_N
        return stale_N

    def nodes(self) -> list[Any]:
        """Every node but the root."""
        return radix_tree.nodes(self.cache)

    def cached(self) -> Iterator[tuple[str, IntArray, bool]]:
        """(whose, full slots, whether they claim SWA slots) of each node."""
        for node in self.nodes():
            yield f"node {radix_tree.node_id(node)}", radix_tree.full_slots(node), not radix_tree.is_tombstone(node)

    def _replaced(self, req: Any) -> BoolArray:
        """bool[protected]: where the request's row has another slot than the tree for the prefix that it shares."""
        parts = [radix_tree.full_slots(node) for node in reversed(radix_tree.held_path(req))]
        tree_N = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        differs_N: BoolArray = self.machine.row(req)[: len(tree_N)] != tree_N
        return differs_N

    def _check_rows(self) -> None:
        for req in self.machine.holders():
            replaced_N = self._replaced(req)[: protected_len(req)]
            if replaced_N.any():
                self.machine.cover("replaced_under_lock")
                text = f"{req.rid} reads {int(replaced_N.sum())} slots of a prefix it locks that the tree has freed"
                self.machine.claim("locked_prefix_stays", self.tolerant, text)

    def _check_node(self, node: Any) -> None:
        claim = self.machine.claim
        slots_N, which = radix_tree.full_slots(node), radix_tree.node_id(node)
        size = len(slots_N)
        whole = size == radix_tree.key_len(node) and size % self.machine.page_size == 0
        claim("node_is_whole_pages", whole, f"{size} slots")
        is_mapped_N = self.machine.mapping()[slots_N] > 0
        if radix_tree.is_tombstone(node):
            claim("tombstone_has_no_swa", not is_mapped_N.any(), f"tombstone {which} has SWA slots")
        elif not is_mapped_N.all():
            self._read_as_next(node, int(np.flatnonzero(~is_mapped_N)[-1]) + 1)
            claim("live_node_is_mapped", False, f"node {which} claims SWA slots and has none")

    def _read_as_next(self, node: Any, upto: int) -> None:
        """Hand the next request with this prefix, which ends `upto` tokens into the node, what the tree has for it,
        and let the trap say what that request will read. The tree may be changed: a claim is broken already."""
        tokens = radix_tree.tokens_to(node, upto)
        slots_N = np.append(self.machine.call(radix_tree.match_prefix, self.cache, tokens), 0)
        if len(slots_N) > 1:
            self.machine.read(["next"], [slots_N], "extend", np.array([len(slots_N)]), 1)

    def _check_locks(self, nodes: list[Any]) -> None:
        full, swa = Counter[int](), Counter[int]()
        claim = self.machine.claim
        for req in self.machine.reqs.values():
            path, locked = radix_tree.held_path(req), radix_tree.swa_locked(req)
            ids = [radix_tree.node_id(node) for node in path]
            full.update(ids)
            swa.update(ids[:locked])
            held, whole = (sum(len(radix_tree.full_slots(node)) for node in part) for part in (path[:locked], path))
            enough = radix_tree.gave_up_swa_lock(req) or held >= min(self.machine.shape.window, whole)
            claim("window_is_locked", enough, f"{req.rid} locks {held} of {whole} tokens")
            self.machine.cover("shared_lock", any(full[which] > 1 for which in ids))
        for node in nodes:
            which = radix_tree.node_id(node)
            found, wanted = radix_tree.locks(node), (full[which], swa[which])
            claim("locks_are_balanced", found == wanted, f"node {which} has {found} locks, wanted {wanted}")

    def _count(self, nodes: list[Any]) -> None:
        """What became of the nodes since the last look."""
        was, cover = self._was, self.machine.cover
        self._was = now = {radix_tree.node_id(node): radix_tree.is_tombstone(node) for node in nodes}
        cover("deleted", any(id not in now for id in was))
        cover("tombstoned", any(dead and was.get(id) is False for id, dead in now.items()))
        cover("inserted_tombstone", any(dead and id not in was for id, dead in now.items()))
        cover("recovered", any(not dead and was.get(id) is True for id, dead in now.items()))
        cover("bigrams", bool(nodes) and self.machine.shape.eagle)
