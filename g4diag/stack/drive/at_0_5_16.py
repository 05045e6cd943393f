"""How 0.5.16's classes are driven on a CPU: what is not here is as in `at_0_5_17`. The unified prefix cache's
components lie in another package."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from g4diag.stack.drive import at_0_5_17
from g4diag.stack.drive.at_0_5_23.drafts import fused_write_of


def __getattr__(name: str) -> Any:
    return getattr(at_0_5_17, name)


def change_args(args: Any, **values: Any) -> None:
    """Readers ask the published arguments themselves."""
    for name, value in values.items():
        object.__setattr__(args, name, value)


def claimed_slots(cache: Any) -> Any:
    import torch
    from sglang.srt.mem_cache.unified_cache_components import ComponentType

    def values(node: Any, component: Any) -> Any:
        return node.component_data[component].value

    nodes = [node for node in cache._collect_all_nodes() if node is not cache.root_node]
    claiming = [node for node in nodes if values(node, ComponentType.SWA) is not None]
    return torch.cat([torch.empty(0, dtype=torch.int64), *(values(node, ComponentType.FULL) for node in claiming)])


def fused_write() -> AbstractContextManager[None]:
    from sglang.jit_kernel import fused_fp8_qkv_kv_cache as module

    return fused_write_of(module)


def tree_cache(**arguments: Any) -> Any:
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.mem_cache.unified_cache_components import ComponentType
    from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache

    components = (ComponentType.FULL, ComponentType.SWA)
    return UnifiedRadixCache(CacheInitParams(disable=False, tree_components=components, **arguments))
