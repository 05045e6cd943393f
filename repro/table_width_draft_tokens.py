"""A fifth bug, alive in 0.5.13 and 0.5.23: page tables are as wide as the context, and draft tokens reach past it.

PR: sglang #35985 (2026-08-22, open) for issue #34239, in FA3; trtllm_mha sizes its tables alike. A verify near the end
of the context looks up the keys of its draft tokens too, and the lengths that the kernel is handed say so. Rows of
req_to_token have room for them, the table has not: the kernel reads the next row's first pages, or past the buffer,
and reads or faults wherever those ids point. In 0.5.13 that is the table of a CUDA graph alone; an eager one is cut
from req_to_token and is wide enough. In 0.5.23 both have the context's width, and the kernel that fills the eager one
does not stop at it: it writes the last page id over the next row's first, or past the buffer.

Replay a verify of the longest request that the scheduler admits, three tokens below the context's end: as released,
with a stand-in for the cure, which counts the draft tokens in the width, and eagerly; then far from the wall. Eagerly a
second row lies behind the first, for what is written past it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.patches.backend_rule import BACKEND
from g4diag.scenario import Drive, Found, Where
from g4diag.scenario.driving import driven

_STATE, _BUILT = f"{BACKEND}.init_cuda_graph_state", f"{BACKEND}.__init__"
_TRAP = "table_is_wide_enough"
_GRAPHS_ALONE = ((_STATE, "max_num_pages = (self.max_context_len + self.page_size - 1) // self.page_size"),)
_ALL_TABLES = ((_BUILT, "self.max_num_pages = ("), (_BUILT, "self.max_context_len + self.page_size - 1"))


def drive(*, below: int, graph: bool = True) -> Found:
    """below: tokens between the request's end and the context's. Damaged: pages looked up past the table's row."""
    from sglang.srt.layers.attention.trtllm_mha_backend import TRTLLMHAAttnBackend

    from g4diag.stack.drive.backends import PAGE, SMALL, verify_batch
    from g4diag.stack.drive.forwards import plan_capture, plan_replay
    from g4diag.stack.drive.serving import Serving

    serving = Serving(SMALL, 0)
    drafted = serving.args.speculative_num_draft_tokens
    batch = verify_batch(serving, SMALL.context - below, *(() if graph else (PAGE,)))
    backend = TRTLLMHAAttnBackend(serving.runner)
    if graph:
        backend.init_cuda_graph_state(1, drafted)
        plan_capture(backend, batch)
        plan_replay(backend, batch)
    else:
        backend.init_forward_metadata(batch)
    table = backend._get_layer_page_table(serving.model.model.layers[0].self_attn.attn, batch)
    keys = int(backend.forward_metadata.cache_seqlens_int32[0])
    needed = -(-keys // PAGE)
    return Found(
        checked=needed,
        damaged=max(needed - table.shape[1], 0),
        evidence={"draft token among the keys": keys - int(batch.seq_lens[0])},
        says=f"{keys} keys, {needed} pages, a table of {table.shape[1]} columns",
    )


def counting_draft_tokens(original: Callable[..., None], backend: Any, *args: Any) -> None:
    """Around `init_cuda_graph_state`: tables are as wide as the draft tokens reach."""
    context = backend.max_context_len
    backend.max_context_len += backend.speculative_num_draft_tokens
    original(backend, *args)
    backend.max_context_len = context


def wide_from_the_start(original: Callable[..., None], backend: Any, *args: Any, **kwargs: Any) -> None:
    """Around the constructor, where it is what sets the width of every table."""
    original(backend, *args, **kwargs)
    reach = backend.max_context_len + backend.speculative_num_draft_tokens
    backend.max_num_pages = -(-reach // backend.page_size)


def cure() -> tuple[Hook, ...]:
    """The stand-in that fits the installed source."""
    from g4diag.scenario.applicable import missing

    if missing(_ALL_TABLES):
        return (Hook(_STATE, "around", counting_draft_tokens),)
    return (Hook(_BUILT, "around", wide_from_the_start),)


_GRAPH = (Where(_GRAPHS_ALONE, _TRAP), Where(_ALL_TABLES, _TRAP))

SCENARIO = driven(
    drive,
    name="table-width-draft-tokens",
    symptom="illegal memory access, or wrong answers, for requests that near --context-length, with decode graphs on",
    upstream="sglang #35985 (2026-08-22, open), #34239: FA3 there, trtllm_mha here; alive in 0.5.13 and 0.5.23",
    drives=(
        Drive("upstream", "as released", arguments={"below": 3}, where=_GRAPH),
        Drive("cure", "draft tokens counted in the width", hooks=cure, arguments={"below": 3}),
        Drive(
            "eager",
            "as released, no graph",
            arguments={"below": 3, "graph": False},
            where=(Where(_ALL_TABLES, _TRAP),),
        ),
        Drive("far", "as released, two pages from the wall", twin=True, arguments={"below": 32}),
    ),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
