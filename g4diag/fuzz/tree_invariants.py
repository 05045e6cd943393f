"""What must hold of a SWARadixCache: a node that claims SWA K/V has it, a tombstone has none, and locks are held by
the requests that are there, each on the path to its last node and, in the SWA pool, for a window of it."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from g4diag.fuzz.cache_machine import CacheMachine
from g4diag.model import BoolArray, IntArray


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
        values = [node.value for node in reversed(_path(req.last_node))]
        tree_N = np.concatenate([value.numpy() for value in values]) if values else np.zeros(0, dtype=np.int64)
        differs_N: BoolArray = self.row(req)[: len(tree_N)] != tree_N
        return differs_N

    def _check_rows(self) -> None:
        for req in self.holders():
            replaced_N = self._replaced(req)[: req.cache_protected_len]
            if replaced_N.any():
                self.cover("replaced_under_lock")
                text = f"{req.rid} reads {int(replaced_N.sum())} slots of a prefix it locks that the tree has freed"
                self.claim("locked_prefix_stays", self.tolerant, text)

    def nodes(self) -> list[Any]:
        """Every node but the root."""
        return [node for node in self.server.cache._collect_all_nodes() if node is not self.server.cache.root_node]

    def cached(self) -> Iterator[tuple[str, IntArray, bool]]:
        for node in self.nodes():
            yield f"node {node.id}", node.value.numpy(), not node.swa_tombstone

    def _check_node(self, node: Any) -> None:
        size = len(node.value)
        self.claim("node_is_whole_pages", size == len(node.key) and size % self.page_size == 0, f"{size} slots")
        is_mapped_N = self.mapping()[node.value.numpy()] > 0
        if node.swa_tombstone:
            self.claim("tombstone_has_no_swa", not is_mapped_N.any(), f"tombstone {node.id} has SWA slots")
        elif not is_mapped_N.all():
            self._read_as_next(node, int(np.flatnonzero(~is_mapped_N)[-1]) + 1)
            self.claim("live_node_is_mapped", False, f"node {node.id} claims SWA slots and has none")

    def _read_as_next(self, node: Any, upto: int) -> None:
        """Hand the next request with this prefix, which ends `upto` tokens into the node, what the tree has for it,
        and let the trap say what that request will read. The tree may be changed: a claim is broken already."""
        from sglang.srt.mem_cache.base_prefix_cache import MatchPrefixParams
        from sglang.srt.mem_cache.radix_cache import RadixKey

        keys = [node.key[:upto], *(each.key for each in _path(node)[1:])]
        tokens = keys[0].token_ids
        for key in keys[1:]:
            tokens = key.token_ids[: len(key)] + tokens
        match = self.call(self.server.cache.match_prefix, MatchPrefixParams(key=RadixKey(array("q", tokens))))
        slots_N = np.append(match.device_indices.numpy(), 0)
        if len(slots_N) > 1:
            self.read(["next"], [slots_N], "extend", np.array([len(slots_N)]), 1)

    def _check_locks(self, nodes: list[Any]) -> None:
        full, swa = Counter[int](), Counter[int]()
        for req in self.reqs.values():
            path = _path(req.last_node)
            locked = 0 if req.swa_prefix_lock_released else _swa_locked(path, req.swa_uuid_for_lock)
            full.update(node.id for node in path)
            swa.update(node.id for node in path[:locked])
            held, whole = (sum(len(node.value) for node in part) for part in (path[:locked], path))
            enough = req.swa_prefix_lock_released or held >= min(self.shape.window, whole)
            self.claim("window_is_locked", enough, f"{req.rid} locks {held} of {whole} tokens")
            self.cover("shared_lock", any(full[node.id] > 1 for node in path))
        for node in nodes:
            found, wanted = (node.full_lock_ref, node.swa_lock_ref), (full[node.id], swa[node.id])
            self.claim("locks_are_balanced", found == wanted, f"node {node.id} has {found} locks, wanted {wanted}")

    def _count(self, nodes: list[Any]) -> None:
        """What became of the nodes since the last look."""
        was: dict[int, bool] = getattr(self, "_was", {})
        self._was = now = {node.id: node.swa_tombstone for node in nodes}
        self.cover("deleted", any(id not in now for id in was))
        self.cover("tombstoned", any(dead and was.get(id) is False for id, dead in now.items()))
        self.cover("inserted_tombstone", any(dead and id not in was for id, dead in now.items()))
        self.cover("recovered", any(not dead and was.get(id) is True for id, dead in now.items()))
        self.cover("bigrams", bool(nodes) and self.shape.eagle)


def _path(node: Any) -> list[Any]:
    """The node and what is above it, without the root."""
    path = []
    while node.parent is not None:
        path.append(node)
        node = node.parent
    return path


def _swa_locked(path: list[Any], uuid: int | None) -> int:
    """How many nodes of the path, from its end, a request with that uuid holds in the SWA pool."""
    ends = [i + 1 for i, node in enumerate(path) if uuid is not None and node.swa_uuid == uuid]
    return ends[0] if ends else len(path)
