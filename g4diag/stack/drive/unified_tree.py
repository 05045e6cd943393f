"""A unified prefix cache's tree as seen from outside: slots and locks, whichever core keeps the nodes.

The core in Rust shows no nodes. Both cores answer the walk that upstream's K/V canary uses, and say which nodes a
request's path has; that is enough to tell which slots are cached, which of them have SWA K/V, and which are locked.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np

from g4diag.model import BoolArray, IntArray


@dataclass(frozen=True)
class Slots:
    """Full slots that a tree holds, int64 [N] in its order, and of each: whether its node has SWA K/V, and whether a
    request locks the node in the full and in the SWA pool. swa_locked_N says nothing of a node without SWA K/V."""

    full_N: IntArray
    has_swa_N: BoolArray
    full_locked_N: BoolArray
    swa_locked_N: BoolArray


def slots(cache: Any) -> Slots:
    """All that the tree holds now."""

    def walked(*, unlocked_only: bool, swa_only: bool) -> IntArray:
        walk = cache.tree_core.walk_for_kv_canary(unlocked_only, swa_only)
        return np.asarray(walk.slot_indices.numpy(), dtype=np.int64)

    full_N = walked(unlocked_only=False, swa_only=False)
    has_swa_N = among(full_N, walked(unlocked_only=False, swa_only=True))
    full_locked_N = ~among(full_N, walked(unlocked_only=True, swa_only=False))
    swa_locked_N = has_swa_N & ~among(full_N, walked(unlocked_only=True, swa_only=True))
    return Slots(full_N, has_swa_N, full_locked_N, swa_locked_N)


def among(ids_N: IntArray, others_N: IntArray) -> BoolArray:
    """bool[N]: which of these ids, none of them negative, are among the others: by a table, where numpy would sort."""
    is_other_M = np.zeros(1 + max(ids_N.max(initial=0), others_N.max(initial=0)), dtype=np.bool_)
    is_other_M[others_N] = True
    return is_other_M[ids_N]


def held(cache: Any, req: Any) -> IntArray:
    """int64[N]: the full slots by position of the prefix that a request locks; none without a lock."""
    if req.lock is None:
        return np.zeros(0, dtype=np.int64)
    return np.asarray(cache.path_device_indices(req.lock.node).numpy(), dtype=np.int64)


def match_prefix(cache: Any, tokens: list[int]) -> IntArray:
    """int64[N]: the full slots that the cache has for the start of these token ids. The cache may be changed."""
    from sglang.srt.mem_cache.base_prefix_cache import MatchPrefixParams
    from sglang.srt.mem_cache.radix_cache import RadixKey

    match = cache.match_prefix(MatchPrefixParams(key=RadixKey(array("q", tokens))))
    found_N = cache.path_device_indices(match.last_device_node).numpy()
    return np.asarray(found_N[: match.device_prefix_len], dtype=np.int64)


def gave_up_swa_lock(req: Any) -> bool:
    """Whether it has let go of its SWA lock before its full one."""
    return bool(req.lock is not None and req.lock.swa_released)


def node_values(cache: Any, req: Any) -> list[tuple[int, IntArray, IntArray]]:
    """(node, full slots, SWA slots that the node says they have) of each node with SWA K/V that a request locks."""
    from sglang.srt.mem_cache.unified_cache.component_type import ComponentType

    if req.lock is None:
        return []
    core, found = cache.tree_core, []
    for node in core.collect_path_info([req.lock.node])[0]:
        swa = core.get_component_device_value(node.node_id, ComponentType.SWA)
        if swa is not None:
            full = core.get_component_device_value(node.node_id, ComponentType.FULL)
            found.append((int(node.node_id), full.numpy(), swa.numpy()))
    return found
