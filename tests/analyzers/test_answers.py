"""The short answers under the verdict: signature, layers, lifetime, ruled out, mis-attribution, the next command."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest

from g4diag.analyzers import inspect_files, layer_map, misattribution, next_command, page_lifetime, ruled_out
from g4diag.analyzers import signature as signatures
from g4diag.model import (
    Allocation,
    Grade,
    Incident,
    KernelFault,
    LayerKind,
    LogEvent,
    Release,
    RingRecord,
    Violation,
)
from g4diag.traps.page_table_stays_in_pool import TRAP
from tests import samples
from tests.cli.test_inspect import DUMPS

SIGNATURE = "g4d1:page_table_stays_in_pool:swa-page:swa:trtllm_mha:draft_decode"


def clean() -> Incident:
    return samples.incident(samples.healthy_read())


def recorded() -> Violation:
    return next(iter(TRAP.judge(samples.faulty_read())))


def test_signature_is_the_verdicts_and_names_the_others() -> None:
    (finding,) = signatures.analyze(samples.faulty_incident())
    assert finding.text == SIGNATURE and "g4d1:swa_state_follows_pool:-:-:trtllm_mha:-" in finding.data["others"]


def test_where_nothing_can_be_judged_the_record_is_signed() -> None:
    (finding,) = signatures.analyze(Incident("g4diag-ring", violations=(recorded(),)))
    assert finding.text == SIGNATURE and finding.data["recorded"]
    cleared = replace(clean(), violations=(recorded(),))
    assert not list(signatures.analyze(cleared))


def test_layers_are_mapped_and_the_wrong_ones_counted() -> None:
    full = samples.healthy_read(layer_id=5, layer_kind=LayerKind.FULL, pool=samples.full_pool(), window_left=-1)
    full = replace(full, page_table_BP=samples.full_pages()[None].astype(np.int32), table_space=full.expected_space)
    (finding,) = layer_map.analyze(samples.incident(samples.faulty_read(), full))
    wrong, right = finding.data["layers"]
    assert (wrong["layer_id"], wrong["table"], wrong["wants"], wrong["bad_reads"]) == (4, "full page", "SWA page", 1)
    assert (right["layer_id"], right["pool"], right["bad_reads"]) == (5, "full", 0)
    assert finding.text == "1 of 2 recorded layers were handed a wrong table: swa"


def test_lifetime_names_the_calls_and_the_steps() -> None:
    slots = np.arange(samples.PAGE) + 188 * samples.PAGE
    rid = f"{zlib.crc32(b'r7'):08x}"
    steps = [
        RingRecord(1, 1, "step", step=3, mode="DECODE", swa_freed=0, freed=0),
        RingRecord(2, 2, "step", step=4, mode="EXTEND", swa_freed=0, freed=0, rids=(rid,)),
        RingRecord(3, 3, "step", step=9, mode="DECODE", swa_freed=256, freed=0, rids=(rid,)),
    ]
    incident = replace(
        samples.faulty_incident(),
        allocations=(Allocation("alloc_extend", samples.full_pool(), slots),),
        releases=(Release(samples.full_pool(), slots, np.array([188])),),
        ring=tuple(steps),
    )
    said = [finding.text for finding in page_lifetime.analyze(incident)]
    assert "full page 188 was handed out by call 1 of 1 recorded" in said
    assert "full page 188 was given back by call 1 of 1 recorded" in said
    assert "request r7, which holds 188, first ran at step 4 (EXTEND) and last at step 9" in said
    assert "SWA pages had been freed apart from full ones at step 9: 256 slots, or more" in said


def test_an_unknown_lifetime_says_what_would_tell() -> None:
    incident = Incident("g4diag", reads=(samples.faulty_read(mapping=None),))
    (finding,) = page_lifetime.analyze(incident)
    assert "G4DIAG_RECORDER=on" in finding.text and not list(page_lifetime.analyze(clean()))


def test_ruled_out_says_by_what() -> None:
    found = {f.data["hypothesis"]: f.data["by"] for f in ruled_out.analyze(samples.faulty_incident())}
    assert found["a stale entry the kernel never follows"].startswith("column 60 is one of the live 60..62 of row 0")
    assert found["a live page unmapped, or mapped with another"] == "the 3 live full pages map to 3 different SWA pages"
    assert "an exhausted pool" in found and "a read past the pool" not in found
    assert not list(ruled_out.analyze(clean()))


def test_what_is_broken_is_not_ruled_out() -> None:
    mapping = samples.mapping()
    mapping.full_to_swa_M[189 * samples.PAGE : 190 * samples.PAGE] = mapping.full_to_swa_M[188 * samples.PAGE]
    full = replace(samples.swa_pool(), free_pages_N=np.array([], dtype=np.int64))
    incident = samples.incident(samples.faulty_read(mapping=mapping), mapping=mapping, pools=(full,))
    found = {finding.data["hypothesis"] for finding in ruled_out.analyze(incident)}
    assert found and not found & {"a live page unmapped, or mapped with another", "an exhausted pool"}


def test_a_silent_wrong_read_is_not_past_the_end() -> None:
    read = samples.healthy_read()
    read.page_table_BP[0, samples.LAST] = 7
    found = {finding.data["hypothesis"] for finding in ruled_out.analyze(samples.incident(read))}
    assert "a read past the pool" in found


FRAME = LogEvent("frame", 'File "x/sampler.py", line 40, in sample', "server.log:9", where="x/sampler.py:40")
ILLEGAL = LogEvent("illegal-access", "CUDA error: an illegal memory access was encountered", "server.log:10")


def test_a_core_dump_measures_what_the_traceback_does_not() -> None:
    fault = KernelFault("kernel_mha", "Warp Illegal Address", "core.1", meaning="row 7")
    (finding,) = misattribution.analyze(Incident("server-log", log=(FRAME, ILLEGAL), faults=(fault,)))
    assert finding.grade is Grade.MEASURED and "x/sampler.py:40" in finding.text and "kernel_mha" in finding.text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('File "/site/flashinfer/xqa.py", line 91, in xqa', "a launch of XQA"),
        ('File "/site/torch/cuda/graphs.py", line 139, in replay', "one launch of all its kernels"),
        ('File "/site/g4diag/stack/probes/page_table.py", line 98 in _host', "g4diag's own check, which only waited"),
        ('File "/site/sglang/srt/layers/attention/triton_backend.py", line 1605, in f', "who waited for the device"),
        ('File "/home/me/g4diag/.venv/lib/sglang/srt/layers/sampler.py", line 1, in f', "who waited for the device"),
    ],
)
def test_what_stands_in_the_line_that_reported_says_how_far_to_trust_it(line: str, said: str) -> None:
    (finding,) = misattribution.analyze(Incident("server-log", log=(replace(FRAME, text=line), ILLEGAL)))
    assert said in finding.text and "may be any that ran before" in finding.text


def test_the_sample_log_blames_a_backend_that_did_not_fault() -> None:
    (finding,) = inspect_files([DUMPS / "h100-surfaced-elsewhere.log"]).of("misattribution")
    assert finding.data == {"surfaced": "triton_backend.py:1605", "culprit": None, "blame": "waited"}
    (finding,) = inspect_files([DUMPS / "h100-postmortem.json"]).of("misattribution")
    assert finding.data["surfaced"] == "page_table.py:98" and finding.data["culprit"].startswith("kernel_mha")


def test_a_broken_table_lets_it_be_derived() -> None:
    (finding,) = misattribution.analyze(replace(samples.faulty_incident(), log=(FRAME, ILLEGAL)))
    assert finding.grade is Grade.DERIVED and "the attention of layer 4 at step 12" in finding.text


def test_a_python_error_happened_where_it_was_raised() -> None:
    raised = LogEvent("exception", "IndexError: list index out of range", "server.log:10")
    (finding,) = misattribution.analyze(Incident("server-log", log=(FRAME, raised)))
    assert "that is where it happened" in finding.text and not list(misattribution.analyze(clean()))


def test_the_next_command_is_the_known_issues_else_the_traps() -> None:
    (finding,) = next_command.analyze(samples.faulty_incident())
    assert finding.text == "g4diag repro trtllm-mha-swa"
    allocation = Allocation("alloc_extend", samples.swa_pool(), np.array([samples.SWA_PAGES * samples.PAGE]))
    (finding,) = next_command.analyze(Incident("g4diag", allocations=(allocation,)))
    assert finding.text == "G4DIAG_LEVEL=strict g4diag serve --traps allocator -- SGLANG-ARGUMENTS"
    (finding,) = next_command.analyze(Incident("g4diag-ring"))
    assert "--traps all" in finding.text and not list(next_command.analyze(clean()))


def test_another_steps_metadata_is_ruled_out_by_ids_and_not_by_lengths_alone() -> None:
    said = "metadata of another step"
    untranslated = replace(samples.faulty_read(), batch_lens_B=samples.faulty_read().seq_lens_B.astype(np.int64))
    assert any(said in finding.text for finding in ruled_out.analyze(samples.incident(untranslated)))
    table = untranslated.page_table_BP.copy()
    table[untranslated.live_BP()] = 3
    stale = replace(untranslated, page_table_BP=table)
    assert not any(said in finding.text for finding in ruled_out.analyze(samples.incident(stale)))
