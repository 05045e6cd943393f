"""What must hold of a radix tree whose nodes can be read: a node that claims SWA K/V has it, a tombstone has none, and
locks are held by the requests that are there, each on the path to its last node and, in the SWA pool, for a window of
it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from g4diag.fuzz.cache_machine import CacheMachine
from g4diag.model import BoolArray, IntArray
from g4diag.stack.drive import radix_tree
from g4diag.stack.drive.request_state import protected_len

_NOTHING_N = np.zeros(0, dtype=np.int64)


class Node:
    """One of sglang's as it was when the tree was looked at. which: its id. slots_N: int64, its full slots. is_dead:
    whether it is a tombstone."""

    __slots__ = ("is_dead", "node", "slots_N", "which")

    def __init__(self, which: int, node: Any) -> None:
        self.which, self.node = which, node
        self.slots_N, self.is_dead = radix_tree.full_slots(node), radix_tree.is_tombstone(node)

    def __str__(self) -> str:
        return f"node {self.which}"


class NodeTree:
    """The tree of a machine's server. tolerant: a defect of 0.5.13 that tests/fuzz pins is counted and no claim: an
    insert that recovers a tombstone frees its full slots under requests that hold its full lock."""

    def __init__(self, machine: CacheMachine, *, tolerant: bool) -> None:
        self.machine, self.cache, self.tolerant = machine, machine.server.cache, tolerant
        self._was: dict[int, bool] = {}
        self._seen: dict[int, Node] = {}

    def check(self) -> None:
        """Claims of the machine's. What is seen here is what `cached` tells until the next time."""
        self._seen = {(which := radix_tree.node_id(node)): Node(which, node) for node in self.nodes()}
        self._count()
        if not self._are_whole_and_mapped():
            for node in self._seen.values():
                self._check_node(node)
        paths = {req.rid: self._path(req) for req in self.machine.reqs.values()}
        self._check_locks(paths)
        self._check_rows(paths)

    def known_stale(self, req: Any, start: int) -> BoolArray:
        """bool[start]: positions whose slots the pinned defect has freed."""
        stale_N = np.zeros(start, dtype=np.bool_)
        replaced_N = self._replaced(req, [Node(0, node) for node in radix_tree.held_path(req)])[:start]
        if self.tolerant:
            stale_N[: len(replaced_N)] = replaced_N
        return stale_N

    def nodes(self) -> list[Any]:
        """Every node but the root."""
        return radix_tree.nodes(self.cache)

    def cached(self) -> Iterator[tuple[object, IntArray, bool]]:
        """(whose, full slots, whether they claim SWA slots) of each node."""
        for node in self._seen.values():
            yield node, node.slots_N, not node.is_dead

    def _path(self, req: Any) -> list[Node]:
        """The nodes that a request holds, from its last one up; one that is not of the tree too."""
        seen = self._seen
        path = [(radix_tree.node_id(node), node) for node in radix_tree.held_path(req)]
        return [seen[which] if which in seen else Node(which, node) for which, node in path]

    def _replaced(self, req: Any, path: list[Node]) -> BoolArray:
        """bool[protected]: where the request's row has another slot than the tree for the prefix that it shares."""
        tree_N = np.concatenate([*(node.slots_N for node in reversed(path)), _NOTHING_N])
        differs_N: BoolArray = self.machine.row(req)[: len(tree_N)] != tree_N
        return differs_N

    def _check_rows(self, paths: dict[str, list[Node]]) -> None:
        for req in self.machine.holders():
            replaced = np.count_nonzero(self._replaced(req, paths[req.rid])[: protected_len(req)])
            if replaced:
                self.machine.cover("replaced_under_lock")
                text = f"{req.rid} reads {replaced} slots of a prefix it locks that the tree has freed"
                self.machine.claim("locked_prefix_stays", self.tolerant, text)

    def _are_whole_and_mapped(self) -> bool:
        """Whether nothing is to be said of any node, in one look at all of their slots."""
        nodes, page = self._seen.values(), self.machine.page_size
        sizes = [len(node.slots_N) for node in nodes]
        if any([size % page or size != radix_tree.key_len(node.node) for size, node in zip(sizes, nodes, strict=True)]):
            return False
        slots_N = np.concatenate([_NOTHING_N, *(node.slots_N for node in nodes)])
        is_dead_N = np.repeat(np.array([node.is_dead for node in nodes], dtype=np.bool_), sizes)
        return not np.count_nonzero((self.machine.mapping()[slots_N] > 0) == is_dead_N)

    def _check_node(self, node: Node) -> None:
        claim, size = self.machine.claim, len(node.slots_N)
        whole = size == radix_tree.key_len(node.node) and size % self.machine.page_size == 0
        claim("node_is_whole_pages", whole, lambda: f"{size} slots")
        is_mapped_N = self.machine.mapping()[node.slots_N] > 0
        mapped = np.count_nonzero(is_mapped_N)
        if node.is_dead:
            claim("tombstone_has_no_swa", not mapped, lambda: f"tombstone {node.which} has SWA slots")
        elif mapped < size:
            self._read_as_next(node.node, int(np.flatnonzero(~is_mapped_N)[-1]) + 1)
            claim("live_node_is_mapped", False, f"node {node.which} claims SWA slots and has none")

    def _read_as_next(self, node: Any, upto: int) -> None:
        """Hand the next request with this prefix, which ends `upto` tokens into the node, what the tree has for it,
        and let the trap say what that request will read. The tree may be changed: a claim is broken already."""
        tokens = radix_tree.tokens_to(node, upto)
        slots_N = np.append(self.machine.call(radix_tree.match_prefix, self.cache, tokens), 0)
        if len(slots_N) > 1:
            self.machine.read(["next"], [slots_N], "extend", np.array([len(slots_N)]), 1)

    def _check_locks(self, paths: dict[str, list[Node]]) -> None:
        full: dict[int, int] = {}
        swa: dict[int, int] = {}
        claim = self.machine.claim
        for req in self.machine.reqs.values():
            path, locked = paths[req.rid], radix_tree.swa_locked(req)
            for at, node in enumerate(path):
                full[node.which] = full.get(node.which, 0) + 1
                if at < locked:
                    swa[node.which] = swa.get(node.which, 0) + 1
            held, whole = (sum([len(node.slots_N) for node in part]) for part in (path[:locked], path))
            if held < min(self.machine.shape.window, whole) and not radix_tree.gave_up_swa_lock(req):
                claim("window_is_locked", False, f"{req.rid} locks {held} of {whole} tokens")
            self.machine.cover("shared_lock", any([full[node.which] > 1 for node in path]))
        for which, node in self._seen.items():
            found, wanted = radix_tree.locks(node.node), (full.get(which, 0), swa.get(which, 0))
            if found != wanted:  # a text is made for a claim that does not hold
                claim("locks_are_balanced", False, f"node {which} has {found} locks, wanted {wanted}")

    def _count(self) -> None:
        """What became of the nodes since the last look."""
        was, cover = self._was, self.machine.cover
        self._was = now = {which: node.is_dead for which, node in self._seen.items()}
        if now != was:
            cover("deleted", not was.keys() <= now.keys())
            cover("tombstoned", any([dead and was.get(id) is False for id, dead in now.items()]))
            cover("inserted_tombstone", any([dead and id not in was for id, dead in now.items()]))
            cover("recovered", any([not dead and was.get(id) is True for id, dead in now.items()]))
        cover("bigrams", bool(now) and self.machine.shape.eagle)
