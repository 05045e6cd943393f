"""How 0.5.15's classes are driven on a CPU: what is not here is as in `at_0_5_16`.

Arguments, the global configuration, requests, pools and the prefix cache are as in 0.5.13; the draft's worker, its
graph runner and the eager forward as in the releases after it.
"""

from __future__ import annotations

from typing import Any

from g4diag.stack.drive import at_0_5_13, at_0_5_16

_AS_BEFORE = {
    *("bind_plan", "change_args", "claimed_slots", "evicted_len", "forward_batch", "fused_write", "held"),
    *("make_own_pool", "publish", "release", "retract", "row_headroom", "row_holder", "stash", "tree_cache"),
}


def __getattr__(name: str) -> Any:
    return getattr(at_0_5_13 if name in _AS_BEFORE else at_0_5_16, name)


def server_args(**overrides: Any) -> Any:
    """As 0.5.13's, with the sizes of decode graphs where this release keeps them."""
    from sglang.srt.model_executor.cuda_graph_config import CudaGraphConfig

    given = dict(overrides)
    if sizes := given.pop("cuda_graph_bs", None):
        given["cuda_graph_bs_decode"] = sizes
        given["cuda_graph_config"] = CudaGraphConfig.from_dict({"decode": {"bs": list(sizes), "max_bs": max(sizes)}})
    return at_0_5_13.server_args(**given)


def runner_fields(args: Any) -> dict[str, Any]:
    return {
        **at_0_5_13.runner_fields(args),
        "dcp_size": 1,
        "max_total_num_tokens": 4096,
        "max_running_requests": 64,
        "prefill_attention_backend_str": "trtllm_mha",
        "decode_attention_backend_str": "trtllm_mha",
    }
