"""A prefix tree's nodes and locks, as SWARadixCache keeps them. A node is sglang's own object. Later releases have
`unified_tree`."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from g4diag.model import IntArray


def has_nodes(cache: Any) -> bool:
    """Whether this is a cache whose nodes these functions read."""
    return hasattr(cache, "_collect_all_nodes")


def nodes(cache: Any) -> list[Any]:
    """Every node but the root."""
    return [node for node in cache._collect_all_nodes() if node is not cache.root_node]


def node_id(node: Any) -> int:
    """Tells it from every other node of its process, deleted ones included."""
    return int(node.id)


def full_slots(node: Any) -> IntArray:
    """int64[N]: the full slots it holds, by position."""
    slots_N: IntArray = node.value.numpy()
    return slots_N


def key_len(node: Any) -> int:
    """How long its key is, in tokens, or in bigrams where it is keyed by those."""
    return len(node.key)


def is_tombstone(node: Any) -> bool:
    """Whether it has full K/V only: its SWA slots were given up."""
    return bool(node.swa_tombstone)


def locks(node: Any) -> tuple[int, int]:
    """How often it is held in the (full, SWA) pool."""
    return node.full_lock_ref, node.swa_lock_ref


def path_to(node: Any) -> list[Any]:
    """The node and what is above it, without the root."""
    path = []
    while node.parent is not None:
        path.append(node)
        node = node.parent
    return path


def held_path(req: Any) -> list[Any]:
    """The nodes that a request holds in the full pool, from its last one up."""
    return path_to(req.last_node)


def gave_up_swa_lock(req: Any) -> bool:
    """Whether it has let go of its SWA lock before its full one."""
    return bool(req.swa_prefix_lock_released)


def swa_locked(req: Any) -> int:
    """How many nodes of its `held_path`, from its start, a request holds in the SWA pool too."""
    if gave_up_swa_lock(req):
        return 0
    path, uuid = held_path(req), req.swa_uuid_for_lock
    ends = [i + 1 for i, node in enumerate(path) if uuid is not None and node.swa_uuid == uuid]
    return ends[0] if ends else len(path)


def tokens_to(node: Any, upto: int) -> list[int]:
    """The token ids of a prefix that ends `upto` tokens into the node."""
    keys = [node.key[:upto], *(each.key for each in path_to(node)[1:])]
    tokens = keys[0].token_ids
    for key in keys[1:]:
        tokens = key.token_ids[: len(key)] + tokens
    return list(tokens)


def match_prefix(cache: Any, tokens: list[int]) -> IntArray:
    """int64[N]: the full slots that the cache has for the start of these token ids. The cache may be changed."""
    from sglang.srt.mem_cache.base_prefix_cache import MatchPrefixParams
    from sglang.srt.mem_cache.radix_cache import RadixKey

    match = cache.match_prefix(MatchPrefixParams(key=RadixKey(array("q", tokens))))
    return np.asarray(match.device_indices.numpy())
