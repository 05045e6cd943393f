"""0.5.23: requests, what they hold of the pools, and the prefix cache. See `at_0_5_13` for what each is for."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any


def tree_cache(**arguments: Any) -> Any:
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.mem_cache.unified_cache.components import ComponentType
    from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache

    components = (ComponentType.FULL, ComponentType.SWA)
    return UnifiedRadixCache(CacheInitParams(disable=False, tree_components=components, **arguments))


def claimed_slots(cache: Any) -> Any:
    """Through what upstream's own canary walks, which both of its tree cores have."""
    return cache.tree_core.walk_for_kv_canary(unlocked_only=False, swa_resident_only=True).slot_indices


def held(req: Any) -> Any:
    return req.kv


def row_holder() -> Any:
    from sglang.srt.managers.schedule_batch import ReqKvInfo

    return SimpleNamespace(kv=ReqKvInfo())


def evicted_len(req: Any) -> int:
    from sglang.srt.mem_cache.unified_cache.components import ComponentType

    return int(req.kv.get_evicted_seqlen(ComponentType.SWA))


def prefix_len(req: Any) -> int:
    return int(req.prefix_len)


def prefill_end(req: Any) -> int:
    return int(req.extend_end)


def stash(req: Any, cache: Any, *, chunked: bool) -> None:
    from sglang.srt.mem_cache.common import checkpoint_kv_cache

    checkpoint_kv_cache(req, cache)


def retract(batch: Any, args: Any) -> tuple[list[Any], list[Any]]:
    retracted, _, aborted = batch.retract_decode()
    return list(retracted), list(aborted)


def evict_every(tokens: int) -> AbstractContextManager[Any]:
    from sglang.srt.environ import envs

    made: AbstractContextManager[Any] = envs.SGLANG_SWA_EVICTION_INTERVAL.override(tokens)
    return made


def release(req: Any, cache: Any) -> None:
    from sglang.srt.managers.schedule_batch import FINISH_LENGTH
    from sglang.srt.mem_cache.common import release_kv_cache

    if not req.finished():  # the cache asks
        req.finished_reason = FINISH_LENGTH(len(req.output_ids))
    release_kv_cache(req, cache, checkpoint=True)


def write_kv(pool: Any, layer: Any, full: Any, swa: Any, k: Any, v: Any) -> None:
    from sglang.srt.mem_cache.memory_pool import KVWriteLoc

    pool.set_kv_buffer(layer, KVWriteLoc(full, swa), k, v)
