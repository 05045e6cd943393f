"""How 0.5.16's classes are driven on a CPU: what is not here is as in `at_0_5_17`. The unified prefix cache's
components lie in another package."""

from __future__ import annotations

from typing import Any

from g4diag.stack.drive import at_0_5_17


def __getattr__(name: str) -> Any:
    return getattr(at_0_5_17, name)


def tree_cache(**arguments: Any) -> Any:
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.mem_cache.unified_cache_components import ComponentType
    from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache

    components = (ComponentType.FULL, ComponentType.SWA)
    return UnifiedRadixCache(CacheInitParams(disable=False, tree_components=components, **arguments))
