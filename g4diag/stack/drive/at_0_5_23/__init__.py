"""How 0.5.23's classes are driven on a CPU. The same functions as `at_0_5_13`, where each says what it is for.

What moved: arguments are a struct that sglang publishes in its runtime context; eager forwards go through a runner of
their own; a request's row and lengths lie in `req.kv`; Gemma-4 is served by the unified prefix cache.
"""

from g4diag.stack.drive.at_0_5_23 import fixtures, scheduling
from g4diag.stack.drive.at_0_5_23.drafts import (
    Closures,
    bind_plan,
    draft_worker,
    extend_batch,
    extend_runner,
    forward_batch,
    fused_write,
    graph_runner,
    handed_to_draft,
    plan_graph,
    replay,
    replay_extend,
)
from g4diag.stack.drive.at_0_5_23.pools import make_own_pool, split_tokens
from g4diag.stack.drive.at_0_5_23.process import (
    ABSENT,
    SWA_POOL_ARGUMENTS,
    begin_runner,
    bind_stand_ins,
    change_args,
    copy_eager_inputs,
    finish_runner,
    model_config,
    publish,
    row_headroom,
    runner_fields,
    server_args,
    start_parallel,
)
from g4diag.stack.drive.at_0_5_23.requests import (
    claimed_slots,
    evict_every,
    evicted_len,
    held,
    prefill_end,
    prefix_len,
    release,
    retract,
    row_holder,
    stash,
    tree_cache,
    write_kv,
)

FIXTURES, SCHEDULING = fixtures, scheduling

__all__ = [
    "ABSENT",
    "FIXTURES",
    "SCHEDULING",
    "SWA_POOL_ARGUMENTS",
    "Closures",
    "begin_runner",
    "bind_plan",
    "bind_stand_ins",
    "change_args",
    "claimed_slots",
    "copy_eager_inputs",
    "draft_worker",
    "evict_every",
    "evicted_len",
    "extend_batch",
    "extend_runner",
    "finish_runner",
    "forward_batch",
    "fused_write",
    "graph_runner",
    "handed_to_draft",
    "held",
    "make_own_pool",
    "model_config",
    "plan_graph",
    "prefill_end",
    "prefix_len",
    "publish",
    "release",
    "replay",
    "replay_extend",
    "retract",
    "row_headroom",
    "row_holder",
    "runner_fields",
    "server_args",
    "split_tokens",
    "start_parallel",
    "stash",
    "tree_cache",
    "write_kv",
]
