"""Known issues match by signature, facts and lines; a derived match needs all of what the entry asks for."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from g4diag.analyzers.cure import analyze as cures
from g4diag.analyzers.facts import NAMES, shapes
from g4diag.analyzers.issues import KnownIssue, known_issues
from g4diag.analyzers.known_issues import analyze
from g4diag.analyzers.matching import matches
from g4diag.discover import contributions
from g4diag.dump.reader import read_dump
from g4diag.dump.server_log import read_log
from g4diag.matrix.cells import matrix
from g4diag.model import AttentionRead, Grade, Incident, IndexSpace, LayerKind, PoolSwap, Severity, Violation
from g4diag.patches.applying import patches
from g4diag.signature import is_signature
from tests import samples
from tests.cli.test_inspect import DUMPS

# Threads of the triage notes and of the catalogue.
_TRIAGED = {18970, 24436, 25103, 25824, 25983, 26957, 26966, 27491, 28264, 28817, 29616}
_CATALOGUE = {17630, 19107, 22470, 22679, 24617, 25805, 27338, 27779, 27789, 34823, 35985, 36135, 39287, 40756}
each_issue = pytest.mark.parametrize("issue", known_issues(), ids=lambda issue: issue.id)


def best(incident: Incident) -> tuple[str, Grade] | None:
    return next(((match.issue.id, match.grade) for match in matches(incident)), None)


def reads_with(**changes: object) -> Incident:
    incident = samples.faulty_incident()
    reads: tuple[AttentionRead, ...] = tuple(replace(read, **changes) for read in incident.reads)  # type: ignore[arg-type]
    return replace(incident, reads=reads, swaps=())


def swapped(**changes: object) -> Incident:
    return replace(samples.faulty_incident(), swaps=(replace(samples.stale_swap(), **changes),))  # type: ignore[arg-type]


def test_the_threads_are_all_there() -> None:
    there = {
        int(number) for issue in known_issues() for text in issue.references for number in re.findall(r"#(\d+)", text)
    }
    assert there >= _TRIAGED | _CATALOGUE


@each_issue
def test_an_entry_is_whole(issue: KnownIssue) -> None:
    assert issue.title and issue.symptom and issue.affected and issue.cure
    # A pattern has the parts of a signature, so that it can match one.
    patterns = [pattern for form in issue.forms for pattern in form.signatures]
    assert all(is_signature(pattern) for pattern in patterns)
    assert all(re.compile(pattern) for form in issue.forms for pattern in form.says)
    claims = {found.name for found in contributions("g4diag.traps", "TRAP")}
    named = {pattern.split(":")[1].removesuffix("*") for pattern in patterns}
    assert all(any(claim.startswith(name) for claim in claims) for name in named)


@each_issue
def test_it_asks_for_facts_that_there_are(issue: KnownIssue) -> None:
    """One that nobody tells, by a slip of the pen, would never be matched and never ruled out."""
    words = {shape.name: set(shape.values) for shape in shapes()}
    for form in issue.forms:
        for asked in (form.needs, form.facts, form.tells, form.unless):
            for name, values in asked.items():
                assert name in NAMES or name in words, name
                assert name not in words or values <= words[name], values


@each_issue
def test_its_next_command_names_what_exists(issue: KnownIssue) -> None:
    words = issue.next.split()
    if words[:2] == ["g4diag", "repro"]:
        scenarios = {found.value.name for found in contributions("repro", "SCENARIO") if found.error is None}
        assert words[2] in scenarios
    if words[:3] == ["g4diag", "patches", "show"]:
        assert words[3].replace("-", "_") in {found.name for found in contributions("g4diag.patches", "PATCH")}


def test_no_release_is_offered_a_cure_that_it_cannot_take() -> None:
    """Of every release in which it is alive: a patch whose range has it, and releases that are newer."""
    offered = 0
    for issue in known_issues():
        for release in matrix().releases:
            cell = matrix().cell(issue.id, release)
            if cell is None or cell.standing != "alive":
                continue
            cure = issue.cure_for(release)
            for name in re.findall(r"--patches ([a-z0-9-]+)", cure):
                offered += 1
                assert SpecifierSet(patches()[name].releases).contains(release, prereleases=True), (issue.id, release)
            newer = re.findall(r"sglang (0\.5\.\d+)", cure)
            assert all(Version(each) > Version(release) for each in newer), (issue.id, release, cure)
    assert offered > 20


def test_what_a_release_can_do_is_said() -> None:
    (issue,) = (each for each in known_issues() if each.id == "frozen-draft-fa")
    for release in ("0.5.18", "0.5.18+cu129"):
        assert issue.cure_for(release) == "`--speculative-draft-attention-backend triton`"
    assert "--patches frozen-draft-fa-swa-state" in issue.cure_for("0.5.23")
    assert issue.cure_for("") == issue.cure_for("a fork") == issue.cure


@pytest.mark.parametrize(
    ("incident", "wanted"),
    [
        (samples.faulty_incident(), ("trtllm-mha-swa", Grade.DERIVED)),
        (reads_with(worker=""), ("trtllm-mha-swa", Grade.GUESS)),
        (reads_with(backend="FlashAttentionBackend"), ("frozen-draft-fa", Grade.DERIVED)),
        (reads_with(backend="TritonAttnBackend"), ("other-backends-swa-table", Grade.GUESS)),
        (swapped(wanted_pool="target:SWAKVPool", read_pool="draft:MHA"), ("hybrid-wrapper", Grade.DERIVED)),
        (swapped(swa_state="target:SWAKVPool", graph_swa_tables=False), ("patch-e-views", Grade.DERIVED)),
        (samples.incident(samples.healthy_read()), None),
        (samples.incident(), None),
    ],
    ids=["draft", "no-worker", "fa", "triton", "wrapper", "graph-buffers", "healthy", "empty"],
)
def test_the_best_match(incident: Incident, wanted: tuple[str, Grade] | None) -> None:
    assert best(incident) == wanted


def test_a_table_without_a_label_is_known_by_its_values() -> None:
    assert best(reads_with(table_space=None)) == ("trtllm-mha-swa", Grade.DERIVED)
    assert best(reads_with(table_space=None, full_page_table_BP=None)) == ("trtllm-mha-swa", Grade.GUESS)


def test_the_mirror_bug() -> None:
    (read,) = reads_with(table_space=IndexSpace.SWA_PAGE).reads[1:]
    read = replace(read, pool=replace(read.pool, name="draft-own", space=IndexSpace.FULL_PAGE))
    assert best(samples.incident(read)) == ("eagle-own-pool", Grade.DERIVED)


def test_a_clamped_table_is_not_the_bare_swa_bug() -> None:
    read = samples.faulty_read(is_clamped=True)
    clamped = replace(read, page_table_BP=read.page_table_BP.clip(0, samples.SWA_PAGES - 1))
    assert best(samples.incident(clamped)) == ("trtllm-mha-clamp", Grade.DERIVED)


RAISED = """[2026-06-01 01:00:00 TP0] Scheduler hit an exception: Traceback (most recent call last):
  File "/s/python/sglang/srt/managers/scheduler.py", line 10, in run_scheduler_process
    scheduler.run_event_loop()
  File "/s/python/sglang/srt/{}", line 20, in {}
    x()
{}
"""


@pytest.mark.parametrize(
    ("text", "file", "function", "wanted"),
    [
        (
            *("RuntimeError: The size of tensor a (16) must match the size of tensor b (22)", "model_runner.py"),
            *("_eager_fb_view", "stale-out-cache-loc"),
        ),
        ("IndexError: list index out of range", "memory_pool.py", "_get_key_buffer", "hybrid-wrapper"),
        (
            *("TypeError: unsupported operand type(s) for -: 'Tensor' and 'NoneType'", "flashinfer_backend.py"),
            *("update_sliding_window", "flashinfer-spec-window"),
        ),
    ],
)
def test_a_line_is_a_guess_where_it_was_raised_and_nothing_elsewhere(
    text: str, file: str, function: str, wanted: str
) -> None:
    def told(raised: str) -> Incident:
        raw = raised.encode()
        found = read_log(io.BytesIO(raw), len(raw), "server.log")
        assert found is not None and found.log
        return found

    assert best(told(RAISED.format(file, function, text))) == (wanted, Grade.GUESS)
    assert best(told(RAISED.format("models/other.py", "forward", text))) is None
    assert best(told(f"{text}\n")) is None


def test_a_catalogued_thread_is_a_guess() -> None:
    place = {"layer_kind": LayerKind.SWA, "expected_space": IndexSpace.SWA_PAGE}
    violation = Violation("page_in_window_is_mapped", Severity.ERROR, "", phase="decode", **place)  # type: ignore[arg-type]
    found = matches(Incident("g4diag-ring", violations=(violation,)))
    assert {match.issue.id for match in found} == {"evict-past-insert", "bigram-units"}
    assert all(match.grade is Grade.GUESS for match in found)


def test_the_forks_false_alarm_is_told_and_its_true_one_is_not() -> None:
    assert best(read_dump(DUMPS / "legacy-allocator-last-page.pt")) == ("fork-allocator-bound", Grade.DERIVED)
    assert best(read_dump(DUMPS / "legacy-allocator.pt")) is None


def test_cure_and_known_issue_are_one_truth() -> None:
    for incident in (samples.faulty_incident(), swapped(wanted_pool="a", read_pool="b")):
        (cure,), issue = cures(incident), next(iter(analyze(incident)))
        put_back = "; here the fault was put back on purpose"
        assert cure.text == f"cure: {issue.data['cure']}{put_back}" and cure.grade is issue.grade
        without = replace(incident, manifest={"patches": ["patch-e"], "faults": []}, versions={})
        (cure,), issue = cures(without), next(iter(analyze(without)))
        assert cure.text == f"cure: {issue.data['cure']}", "nothing was put back"


def test_a_swap_alone_is_enough() -> None:
    swap = PoolSwap("frozen_kv_target_view", "enter", "B", "draft:P", False, None, True, wanted_pool="target:S")
    assert best(samples.incident(swaps=(swap,))) == ("hybrid-wrapper", Grade.DERIVED)


def test_a_kernel_loggers_dump_on_bounds_alone_is_a_guess() -> None:
    """It names no worker and holds no mapping: the same signature could come of a table that is merely stale."""
    read = samples.faulty_read(
        **{"worker": "", "phase": "decode", "backend": "trtllm_batch_decode_with_kv_cache", "layer_id": -1},
        **{"table_space": None, "full_page_table_BP": None, "mapping": None, "rids": (), "req_rows_B": None},
    )
    incident = Incident("flashinfer-dump", reads=(read,), pools=(read.pool,))
    found = matches(incident)
    assert [match.issue.id for match in found][:1] == ["trtllm-mha-swa"] and found[0].grade is Grade.GUESS


def test_a_cure_says_in_words_what_to_do() -> None:
    """A pull request's number is no instruction: a release, a flag or a patch stands before it."""
    by_number = [issue.id for issue in known_issues() if re.match(r"(?:(?:a |any )?builds? with )?#\d", issue.cure)]
    assert not by_number and sum("#" in issue.cure for issue in known_issues()) >= 10
