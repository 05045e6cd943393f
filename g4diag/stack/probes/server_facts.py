"""What a server was told and has built, as plain data for a dump: a reader elsewhere has neither its command line nor
its process. No path, address, key or prompt is among it.
"""

from __future__ import annotations

from typing import Any

# Attributes of ServerArgs that decide which pools, tables and graphs there are. Which attention backend serves is not
# taken from a flag: what was built is known.
FLAGS = (
    *("page_size", "context_length", "chunked_prefill_size", "swa_full_tokens_ratio", "kv_cache_dtype"),
    *("speculative_algorithm", "speculative_num_steps", "speculative_eagle_topk", "speculative_num_draft_tokens"),
    *("speculative_attention_mode", "disable_radix_cache", "disable_cuda_graph", "disable_overlap_schedule"),
    *("tp_size", "dp_size", "pp_size", "disaggregation_mode", "enable_hierarchical_cache"),
)


def flags_of(runner: Any) -> dict[str, Any]:
    """The flags that this release has and that are set, by attribute of ServerArgs."""
    args = getattr(runner, "server_args", None)
    found = {name: getattr(args, name, None) for name in FLAGS}
    return {name: value for name, value in found.items() if isinstance(value, str | int | float)}


def worker_of(runner: Any, backend: str, pool: str, is_frozen: bool) -> dict[str, Any]:
    """A worker in the numbers that its backend was built with. backend: a class. pool: a label. page_size: of the
    runner, tokens."""
    config = getattr(getattr(runner, "model_config", None), "hf_config", None)
    architectures = getattr(config, "architectures", None) or ("",)
    told = {
        "backend": backend,
        "pool": pool,
        "page_size": getattr(runner, "page_size", None),
        "window": getattr(runner, "sliding_window_size", None),
        "frozen_kv": is_frozen,
        "model": str(architectures[0]),
    }
    return {name: value for name, value in told.items() if value not in (None, "")}
