"""Cases from outside, in the form in which people posted or kept them: the right answer of each, and what is never.

The files are neutral: formats as posted, values and inner frames ours. The number in a name is the public thread.
"""

from __future__ import annotations

import functools
import io
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from g4diag.analyzers import inspect_files
from g4diag.model import Inspection
from g4diag.report import json as as_json
from g4diag.report import markdown, match_json, match_text, text

CASES = Path(__file__).parent / "cases"
# Said of no log here.
NEVER = ("may be any that ran before", "kernel that faulted may be any", "not say how it came about")
WAITED = r"waited for the device, not what faulted"


@dataclass(frozen=True)
class Row:
    """outcome: the first word. leave, match: exit codes of `inspect` and `match`. says: patterns that a report holds.
    never: patterns that none does. issues: known issues that it lists, the first first; () for none."""

    name: str
    outcome: str
    leave: int
    match: int
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    issues: tuple[str, ...] = ()


_SG26957 = "trtllm-mha-swa"
_FA3 = ("fa3-spec-swa-table",)
_EAGLE = (r"eagle_info\.py:377", WAITED)
ROWS = (
    Row(
        *("01-sglang26957-frozenkv-trtllm.log", "LIKELY", 1, 0),
        says=(
            *("fmhaSm100f", "frozen_kv_mtp", "trtllm_mha", "SWA use 0.86", r"accept length 2\.91", "#27491"),
            *("it runs a sliding layer", r"g4diag doctor --sglang-version 0.5.13 LOG"),
        ),
        never=("cure: none",),
        issues=(_SG26957,),
    ),
    Row("02-sglang24402-fa3-eagle3-tree.log", "CRASH", 4, 4, (*_EAGLE, "attention: fa3", "topk: tree"), issues=_FA3),
    Row("04-sglang22930-kvtc-replay.log", "CRASH", 4, 4, ("a graph's replay, one launch of all its kernels", "TP0")),
    Row(
        *("06-sglang22987-nccl-watchdog.log", "CRASH", 4, 4),
        says=(r"scheduler_output_processor_mixin\.py:233", "the main thread was: it waited"),
        never=(r"_monitor\.py", r"threading\.py"),
    ),
    Row(
        *("07-sglang20010-leak.log", "LEAK", 1, 1),
        says=(
            *(r"full pool short by 1 slot: 130042 available \+ 21112 evictable - 151155 total = -1", "9011"),
            *("mamba pool: balanced", "an idle audit of the pools found it; the leak itself is earlier"),
        ),
        never=("that is where it happened",),
    ),
    Row(
        *("09-sglang27789-swa-leak-assert.log", "LEAK", 1, 4),
        says=("swa pool over by 256 slots", "1 page of 256", r"overallocated-tail-freed-twice \(possible"),
        never=("that is where it happened",),
        issues=("overallocated-tail-freed-twice",),
    ),
    Row(
        *("10-sglang36081-pool-leak-dsv4.log", "LEAK", 1, 0),
        says=("full pool: balanced", "swa pool short by 256 slots", "1 page of 256", "TP2 EP2, TP6 EP6"),
        issues=("deferred-free-remap",),
    ),
    Row(
        *("11-sglang34823-gptoss-bigram-leak.log", "LEAK", 1, 4),
        says=("full pool over by 7680 slots", "swa pool over by 512 slots"),
        issues=("bigram-units",),
    ),
    Row("12-semipd17-leak-userwarning.log", "LEAK", 1, 1, ("short by 7 slots", "request rows short by 1 row")),
    Row(
        *("13-sglang17630-gptoss-indexkernel.log", "LIKELY", 1, 0),
        says=(r"IndexKernel\.cu:111, in 8 threads", r"full pool use 0\.97"),
        issues=("draft-pool-too-small",),
    ),
    Row(
        *("14-sglang33656-kvcanary-swa.log", "LIKELY", 1, 1),
        says=("write_position", "TAIL_K_SWA", "slot 40960", "position 512", "86 s later", "nan"),
        never=("unseen",),
    ),
    Row("14b-kvcanary-only.log", "LIKELY", 1, 1, ("write_position", "slot 40960, position 512"), ("unseen",)),
    Row(
        *("16-sglang32283-cudagdb.log", "CRASH", 4, 4),
        says=("RadixTopKRenormProbKernel_MultiCTA", r"block \(37, 0, 0\)", "device 0", "does not touch the KV cache"),
        never=("coredump", "surfaced-elsewhere"),
    ),
    Row(
        *("16b-cudagdb-fmha-sliding.log", "CRASH", 4, 4),
        says=("it runs a sliding layer", r"block \(0, 0, 3\)", "device 2", "not told: algorithm: frozen_kv_mtp"),
        never=("--coredump", "surfaced-elsewhere"),
        issues=(_SG26957,),
    ),
    Row(
        *("17-trtllm15610-xid13.log", "CRASH", 4, 4),
        says=("Xid 13", "one fault told in 4 lines by 2 SMs", "MMU fault", "Xid 43", "only follows another error"),
    ),
    Row("18-qwen38rtx34-xid31.log", "CRASH", 4, 4, ("a write at 0xa_1bc4e000; the same address 2 times: not random",)),
    Row(
        *("18b-hw-xid79-94.log", "HARDWARE", 1, 1),
        says=("fallen off the bus", "Xid 94", "take the GPU out"),
        never=("--traps",),
    ),
    Row(
        "19-journald-sglang-ima.log",
        "CRASH",
        4,
        4,
        (r"mixin\.py:233", "TP0", "2026-06-18 10:22:41", WAITED, "a read at"),
    ),
    Row(
        *("20-vllm55626-worker-prefix.log", "CRASH", 4, 4),
        says=(r"flashinfer_mla_sparse_sm90\.py:288", "TP2 EP2", "the log is of vllm", WAITED),
        never=("g4diag serve",),
    ),
    Row(
        *("24-vllm24107-iso-zone.log", "CRASH", 4, 4),
        says=("2025-09-02 15:04:02 UTC", r"gpu_model_runner\.py:1601"),
        never=("name no zone",),
    ),
    Row("26-sglang13912-double-prefix.log", "CRASH", 4, 4, (r"allocator\.py:512", "2025-11-25 08:01:47")),
    Row(
        *("28-sglang24912-gemma4-nonetype.log", "LIKELY", 1, 0),
        says=("#25204", r"frozen_kv_mtp_utils\.py:77"),
        issues=("frozen-kv-no-bonus-tokens",),
    ),
    Row(
        *("32-flashinfer3427-sanitizer-bmm.log", "CRASH", 4, 4),
        says=("bmm_Bfloat16", r"thread \(96, 0, 0\) of block \(3, 0, 0\)", "MoE", "does not touch the KV cache"),
        never=("--traps",),
    ),
    Row(
        *("33-vllm54296-sanitizer-slotmapping.log", "CRASH", 4, 4),
        says=(
            *("_compute_slot_mapping_kernel", r"block_table\.py:467", "0x7f3a2c203210", "529 bytes past"),
            *("of 12288 bytes", "read of size 4", "2 such errors", "it works on the KV cache or what addresses it"),
        ),
    ),
    Row(
        *("34-flashinfer3929-gemma4-fmhareduction.log", "LIKELY", 1, 0),
        says=(
            r"the launch itself failed there \(runFmhaReduction at fmhaReduction\.cu:418\)",
            "6 or more draft tokens",
        ),
        never=(WAITED,),
        issues=("fmha-reduction-head512",),
    ),
    Row(
        *("40-sglang-accept-collapse.log", "INCONCLUSIVE", 4, 4),
        says=(
            r"accept length 2\.93 to 1\.00",
            "as the load grew",
            "[▁▂▃▄▅▆▇█]{6}; SWA use",
            "outputs stay right",
            "suspects",
        ),
    ),
    *(
        Row(name, "CRASH", 4, 4, _EAGLE, issues=_FA3)
        for name in (
            *("42b-sglang-crlf.log", "45-docker-jsonfile.log", "46b-sglang-ansi.log", "47-gz.log.gz", "48-k8s-cri.log"),
            *("71-first-line-json.log", "72-powershell-utf16.log"),
        )
    ),
    Row(
        *("49-several-crashes.log", "LEAK", 1, 1),
        says=(
            *(
                r"crash 1 of 3: torch\.OutOfMemoryError.{1,160}scheduler\.py:1444.{1,40}01:00:00",
                r"TP2\), 2026-06-01 05:00",
            ),
            *(r"crash 2 of 3: AcceleratorError.{1,120}sampler\.py:120.{1,40}03:00:00", "crash 3 of 3: ValueError"),
            r"crash 2 of 3: it surfaced at sampler\.py:120",
        ),
        never=(r"illegal memory access was encountered, surfaced at scheduler\.py:1444",),
    ),
    Row("51-plain-pytorch-train.log", "CRASH", 4, 4, ("torch training",), ("g4diag serve",)),
    Row("52-plain-size-mismatch.log", "CRASH", 4, 4, (r"raised by Python at qwen2_vl\.py:412",)),
    Row("52b-retract-llama.log", "HEALTHY", 0, 4, ("retracted 2 times",)),
    Row("60a-launch-failure.log", "CRASH", 4, 4, (WAITED, "unspecified launch failure"), ("by Python",)),
    Row("60b-ecc.log", "HARDWARE", 1, 1, ("not the program", "uncorrectable ECC"), ("by Python", "--traps")),
    Row("61-longrange-join.log", "CRASH", 4, 4, ("crash 1 of 2: torch.OutOfMemoryError", "crash 2 of 2: IndexError")),
    Row("62-prompt-quotes-ima.log", "HEALTHY", 0, 4, never=("PyTorch job", "illegal memory", "what is it")),
    Row("62b-clean-healthy.log", "HEALTHY", 0, 4, never=("INCONCLUSIVE",)),
    Row("65-dp-ranks.log", "CRASH", 4, 4, ("DP3 TP3 EP3, DP0 TP0 EP0, DP5 TP5 EP5, DP3 TP3 EP3 first", WAITED)),
    Row("66-tensor-none.log", "CRASH", 4, 4, (r"qwen3_vl\.py:88",)),
    Row("69a-sglang32269-mask.log", "CRASH", 4, 4, (r"decode\.py:2700",), issues=("xqa-verify-mask",)),
    Row("69b-sglang28264-size.log", "CRASH", 4, 4, (r"eager_runner\.py:210",), issues=("stale-out-cache-loc",)),
    Row("69c-sglang22679-window.log", "CRASH", 4, 4, (r"backend\.py:1150",), issues=("flashinfer-spec-window",)),
    Row("78-vllm53773-interleaved.log", "CRASH", 4, 4, ("TP6, TP7, TP6 first",), ("SystemExit",)),
)


def test_every_case_has_a_row() -> None:
    assert sorted(row.name for row in ROWS) == sorted(path.name for path in CASES.iterdir())
    assert len(ROWS) == 48


@functools.cache
def inspected(name: str) -> Inspection:
    return inspect_files([CASES / name])


@functools.cache
def said(name: str) -> str:
    """Every report of it, one after the other."""
    inspection = inspected(name)
    screen = io.StringIO()
    text.render(inspection, Console(file=screen, width=10_000), verbose=True)
    shown = (screen.getvalue(), match_text.render(inspection), markdown.render(inspection), as_json.render(inspection))
    return "\n".join(shown)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_right_answer_and_nothing_that_is_never_right(row: Row) -> None:
    inspection, shown = inspected(row.name), said(row.name)
    verdict = inspection.of("verdict")[0].text
    assert verdict.startswith(f"{row.outcome}: g4diag: "), verdict
    assert (inspection.outcome.exit_code, match_json.exit_code(inspection)) == (row.leave, row.match)
    issues = tuple(str(finding.data["id"]) for finding in inspection.of("known_issues"))
    assert issues == row.issues
    assert not [pattern for pattern in row.says if not re.search(pattern, shown)]
    assert not [pattern for pattern in (*row.never, *NEVER) if re.search(pattern, shown)]


def test_ranks_are_in_the_json_too() -> None:
    story = inspected("65-dp-ranks.log").of("log_story")[0].data
    assert story["ranks"] == ["DP3 TP3 EP3", "DP0 TP0 EP0", "DP5 TP5 EP5"] and story["rank"] == "DP3 TP3 EP3"
