"""How 0.5.21's classes are driven on a CPU: what is not here is as in `at_0_5_23`.

A prefill's reach is a range of the request; what a running request has computed is shared by `cache_unfinished_req`.
"""

from __future__ import annotations

from typing import Any

from g4diag.stack.drive import at_0_5_23


def __getattr__(name: str) -> Any:
    return getattr(at_0_5_23, name)


def runner_fields(args: Any) -> dict[str, Any]:
    sizes = ("tp_size", "dp_size", "pp_size", "attn_dp_size", "attn_cp_size", "attn_dcp_size", "moe_ep_size")
    ranks = ("tp_rank", "dp_rank", "pp_rank", "attn_cp_rank", "attn_dcp_rank")
    return {**at_0_5_23.runner_fields(args), **dict.fromkeys(sizes, 1), **dict.fromkeys(ranks, 0)}


def bind_plan(runner: Any, batch: Any) -> None:
    runner.kv_index_translator.rebind_write_loc(batch)


def make_own_pool(runner: Any, sizes: Any, layers: int) -> None:
    """As in 0.5.23. Whether pools grow after the capture is asked of a model's files here, before it is said that a
    draft's do not."""
    from sglang.srt.model_executor import model_runner as module

    asked = module.is_post_capture_kv_active
    module.is_post_capture_kv_active = lambda *, is_draft_worker, **_: not is_draft_worker
    try:
        at_0_5_23.make_own_pool(runner, sizes, layers)
    finally:
        module.is_post_capture_kv_active = asked


def prefix_len(req: Any) -> int:
    return int(req.extend_range.start)


def prefill_end(req: Any) -> int:
    return int(req.extend_range.end)


def stash(req: Any, cache: Any, *, chunked: bool) -> None:
    from sglang.srt.mem_cache.common import maybe_cache_unfinished_req

    maybe_cache_unfinished_req(req, cache, chunked=chunked)


def release(req: Any, cache: Any) -> None:
    from sglang.srt.mem_cache.common import release_kv_cache

    release_kv_cache(req, cache)
