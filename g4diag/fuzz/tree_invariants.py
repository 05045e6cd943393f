"""What must hold of a SWARadixCache: a node that claims SWA K/V has it, a tombstone has none, and locks are held by
the requests that are there, each on the path to its last node and, in the SWA pool, for a window of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from g4diag.fuzz.cache_machine import CacheMachine
from g4diag.model import BoolArray, IntArray
from g4diag.stack.drive import radix_tree
from g4diag.stack.drive.request_state import protected_len


class TreeInvariants(CacheMachine):
    """Base of a machine whose cache is a radix tree. tolerant: a defect of 0.5.13 that tests/fuzz pins is counted and
    no claim: an insert that recovers a tombstone frees its full slots under requests that hold its full lock."""

    tolerant: ClassVar[bool] = True

    def check_cache(self) -> None:
        nodes = self.nodes()
        self._count(nodes)
        for node in nodes:
            self._check_node(node)
        self._check_locks(nodes)
        self._check_rows()
        if not (self.reqs or self.flight):
            self.call(self.server.cache.sanity_check)

    def known_stale(self, req: Any, start: int) -> BoolArray:
        stale_N = np.zeros(start, dtype=np.bool_)
        replaced_N = self._replaced(req)[:start]
        if self.tolerant:
            stale_N[: len(replaced_N)] = replaced_N
        return stale_N

    def _replaced(self, req: Any) -> BoolArray:
        """bool[protected]: where the request's row has another slot than the tree for the prefix that it shares."""
        parts = [radix_tree.full_slots(node) for node in reversed(radix_tree.held_path(req))]
        tree_N = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        differs_N: BoolArray = self.row(req)[: len(tree_N)] != tree_N
        return differs_N

    def _check_rows(self) -> None:
        for req in self.holders():
            replaced_N = self._replaced(req)[: protected_len(req)]
            if replaced_N.any():
                self.cover("replaced_under_lock")
                text = f"{req.rid} reads {int(replaced_N.sum())} slots of a prefix it locks that the tree has freed"
                self.claim("locked_prefix_stays", self.tolerant, text)

    def nodes(self) -> list[Any]:
        """Every node but the root."""
        return radix_tree.nodes(self.server.cache)

    def cached(self) -> Iterator[tuple[str, IntArray, bool]]:
        for node in self.nodes():
            yield f"node {radix_tree.node_id(node)}", radix_tree.full_slots(node), not radix_tree.is_tombstone(node)

    def _check_node(self, node: Any) -> None:
        slots_N, which = radix_tree.full_slots(node), radix_tree.node_id(node)
        size = len(slots_N)
        whole = size == radix_tree.key_len(node) and size % self.page_size == 0
        self.claim("node_is_whole_pages", whole, f"{size} slots")
        is_mapped_N = self.mapping()[slots_N] > 0
        if radix_tree.is_tombstone(node):
            self.claim("tombstone_has_no_swa", not is_mapped_N.any(), f"tombstone {which} has SWA slots")
        elif not is_mapped_N.all():
            self._read_as_next(node, int(np.flatnonzero(~is_mapped_N)[-1]) + 1)
            self.claim("live_node_is_mapped", False, f"node {which} claims SWA slots and has none")

    def _read_as_next(self, node: Any, upto: int) -> None:
        """Hand the next request with this prefix, which ends `upto` tokens into the node, what the tree has for it,
        and let the trap say what that request will read. The tree may be changed: a claim is broken already."""
        tokens = radix_tree.tokens_to(node, upto)
        slots_N = np.append(self.call(radix_tree.match_prefix, self.server.cache, tokens), 0)
        if len(slots_N) > 1:
            self.read(["next"], [slots_N], "extend", np.array([len(slots_N)]), 1)

    def _check_locks(self, nodes: list[Any]) -> None:
        full, swa = Counter[int](), Counter[int]()
        for req in self.reqs.values():
            path, locked = radix_tree.held_path(req), radix_tree.swa_locked(req)
            ids = [radix_tree.node_id(node) for node in path]
            full.update(ids)
            swa.update(ids[:locked])
            held, whole = (sum(len(radix_tree.full_slots(node)) for node in part) for part in (path[:locked], path))
            enough = radix_tree.gave_up_swa_lock(req) or held >= min(self.shape.window, whole)
            self.claim("window_is_locked", enough, f"{req.rid} locks {held} of {whole} tokens")
            self.cover("shared_lock", any(full[which] > 1 for which in ids))
        for node in nodes:
            which = radix_tree.node_id(node)
            found, wanted = radix_tree.locks(node), (full[which], swa[which])
            self.claim("locks_are_balanced", found == wanted, f"node {which} has {found} locks, wanted {wanted}")

    def _count(self, nodes: list[Any]) -> None:
        """What became of the nodes since the last look."""
        was: dict[int, bool] = getattr(self, "_was", {})
        self._was = now = {radix_tree.node_id(node): radix_tree.is_tombstone(node) for node in nodes}
        self.cover("deleted", any(id not in now for id in was))
        self.cover("tombstoned", any(dead and was.get(id) is False for id, dead in now.items()))
        self.cover("inserted_tombstone", any(dead and id not in was for id, dead in now.items()))
        self.cover("recovered", any(not dead and was.get(id) is True for id, dead in now.items()))
        self.cover("bigrams", bool(nodes) and self.shape.eagle)
