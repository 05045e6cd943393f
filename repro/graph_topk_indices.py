"""The index buffer of a draft's CUDA graphs has room for one branch a request, where there are topk (#27338).

Thread: sglang #27338; #27460 (2026-06-06, merged) mirrors it for MLA. A draft that drafts a tree keeps, for every
step, the slots of topk branches a request. Eagerly the buffer was sized for that, for graphs without the factor: the
kernel that fills a row writes past it, into the next step's, or into whatever lies after the buffer.

No trap of ours looks here, and none needs to: 0.5.13 asserts the width before the kernel, so the fault put back ends
in upstream's own AssertionError, with the numbers. SGLANG_DEBUG_REVERT_PR=27338, which should put it back, raises on
0.5.13: the line that it looks for has become a call. trtllm_mha has no such buffer, and drafts with topk 1.

Fill the graph buffer of a flashinfer draft near the context's end: two branches, with the fault and as released; then
one branch, for which the factor makes no difference.
"""

from __future__ import annotations

import sys

from g4diag.scenario import Drive, Found
from g4diag.scenario.driving import driven

_FAULT = ("graph-indices-lack-topk",)


def drive(*, topk: int) -> Found:
    """topk: branches a request. Raises what upstream does. Damaged: steps whose indices do not fit their row."""
    from types import SimpleNamespace
    from typing import Any

    import torch
    from sglang.srt.layers.attention.flashinfer_backend import FlashInferMultiStepDraftBackend

    from g4diag.stack.drive import cpu
    from g4diag.stack.drive.backends import SMALL, cuda_is_cpu
    from g4diag.stack.drive.driver import driver
    from g4diag.stack.drive.server_without_model import ServerWithoutModel

    serving = ServerWithoutModel(SMALL, 0)
    cpu.bind_wrappers()
    serving.runner.sliding_window_size = None  # a draft that is full throughout
    backend = FlashInferMultiStepDraftBackend(serving.runner, topk=topk, speculative_num_steps=2)
    with cuda_is_cpu():
        backend.init_cuda_graph_state(1, 2)
    lens = torch.tensor([SMALL.context - 8])
    batch: Any = SimpleNamespace(
        batch_size=1,
        seq_lens_sum=int(lens[0]),
        req_pool_indices=torch.tensor([1]),
        seq_lens=lens,
        seq_lens_cpu=lens,
        out_cache_loc=None,
        positions=lens.repeat(topk),
        spec_info=SimpleNamespace(is_draft_input=lambda: True),
    )
    driver().bind_plan(serving.runner, batch)
    buffer, filled = backend.cuda_graph_kv_indices, list[int]()
    backend.common_template(batch, buffer, lambda step, forward: filled.append(len(forward.spec_info.kv_indices)))
    return Found(
        checked=sum(filled),
        damaged=sum(used > buffer.shape[1] for used in filled),
        evidence={"step filled": len(filled), "branch that is whole": min(filled) // (topk * int(lens[0]))},
        says=f"{topk} branches of {int(lens[0])} tokens, rows of {buffer.shape[1]}, at most {max(filled)} used",
    )


SCENARIO = driven(
    drive,
    name="graph-topk-indices",
    symptom="draft kv_indices row too narrow: used > capacity (assert_buffer_fits); memory overwritten before it",
    upstream="sglang #27338, #27460 (merged by 2026-06-06)",
    drives=(
        Drive("upstream", "as released, two branches", arguments={"topk": 2}),
        Drive("faulty", "room for one branch", _FAULT, "raises AssertionError", arguments={"topk": 2}),
        Drive("hidden", "the same, one branch", _FAULT, arguments={"topk": 1}),
        Drive("one-branch", "as released, one branch", twin=True, arguments={"topk": 1}),
    ),
    without_model=True,
    plans=("flashinfer",),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
