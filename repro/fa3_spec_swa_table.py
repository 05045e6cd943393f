"""On fa3 a verified draft tree gives sliding layers a table of full-space slots (#24617).

PR: sglang #24617 (opened 2026-05-07, merged) for issue #24402, gpt-oss with EAGLE3 and topk above 1. For such a verify
FlashAttentionBackend puts a table together for its sliding layers: the prefix's slots, then those of a draft token's
own branch. Neither part was translated, so the SWA pool was read by full slots: an illegal memory access under load.
Pages of 1 only: with larger ones this path asserts. The real backend plans and forwards, its Triton kernel interpreted;
a reader of tables stands in for the attention kernel. Its module wants sgl_kernel, which wants libcuda, so names stand
in for kernels never called.

Verify a tree of three tokens after 30 committed ones, with recycled SWA slots: with the fault put back and as released;
then a chain, whose table is made elsewhere.

A relative, #22679 (EAGLE on sliding windows with flashinfer and triton), is flashinfer-spec-window.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from g4diag.scenario import Drive, DriveOutcome, Found, Options, Progress
from g4diag.scenario.driving import driven

_FAULT = ("fa-spec-full-table",)
_COMMITTED, _DRAFTED = 30, 3
_NAMED = "page_table_in_layer_space + page_table_stays_in_pool"


def drive(*, topk: int) -> Found:
    """topk: branches; 1 is a chain. Damaged: entries of the sliding layers' table that are not the request's slots."""
    import torch

    from g4diag.stack.drive.backends import unpaged_server

    serving = unpaged_server()
    allocator, mapping = serving.allocator, serving.allocator.full_to_swa_index_mapping
    allocator.free_swa(allocator.alloc(20))  # left the window: the full slots stay
    allocator.free(allocator.alloc(40))
    slots = allocator.alloc(_COMMITTED + _DRAFTED)
    tree = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]] if topk > 1 else [[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()
    table = _handed(serving, slots, tree, topk)
    own = mapping[slots]
    branches = [torch.flatten(row.nonzero()) for row in tree]
    wanted = [torch.cat([own[:_COMMITTED], own[_COMMITTED:][branch]]) for branch in branches] if topk > 1 else [own]
    pairs = [(row[: len(want)], want) for row, want in zip(table, wanted, strict=True)]
    past = sum(int((row >= serving.geometry.swa_tokens + 1).sum()) for row, _ in pairs)
    return Found(
        checked=sum(len(want) for want in wanted),
        damaged=sum(int((row != want).sum()) for row, want in pairs),
        evidence={"slot with another number in SWA space": int((own != slots).sum())},
        called="wrong slots",
        says=f"{len(pairs)} rows, {past} entries past the SWA pool of {serving.geometry.swa_tokens} tokens",
    )


def _handed(serving: Any, slots: Any, tree: Any, topk: int) -> Any:
    """int32[rows, columns]: the table that a sliding layer hands the kernel."""
    from g4diag.stack.drive import draft_tree

    backend = draft_tree.fa3_backend(serving, topk, _DRAFTED)
    batch = draft_tree.verify_batch(serving, [slots], [tree])
    backend.init_forward_metadata(batch)
    layers, calls = draft_tree.layers(serving), list[dict[str, Any]]()
    with draft_tree.fa3_kernel(calls.append):
        for is_sliding in (False, True):
            draft_tree.forward(backend, layers[is_sliding], batch)
    return calls[-1]["page_table"]


def run(options: Options, progress: Progress) -> DriveOutcome:
    """Every selected state. Raises CannotRunError, UsageError, VacuousError."""
    from g4diag.scenario.driving import run_drives
    from g4diag.stack.drive.backends import flash_attention_imports

    with flash_attention_imports():
        return run_drives(SCENARIO, drive, options, progress)


SCENARIO = replace(
    driven(
        drive,
        name="fa3-spec-swa-table",
        symptom="illegal memory access on fa3 with EAGLE3 and --speculative-eagle-topk above 1, on a hybrid SWA model",
        upstream="sglang #24617 (opened 2026-05-07, merged), #24402",
        drives=(
            Drive("upstream", "as released, a tree", arguments={"topk": 2}),
            Drive("faulty", "the table is not translated", _FAULT, _NAMED, arguments={"topk": 2}),
            Drive("hidden", "the same, a chain", _FAULT, arguments={"topk": 1}),
            Drive("chain", "as released, a chain", twin=True, arguments={"topk": 1}),
        ),
    ),
    run=run,
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
