"""The confusion matrix: every sample dump against every known issue. The diagonal is matched and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from g4diag.analyzers.issues import known_issues
from g4diag.analyzers.matching import matches
from g4diag.dump.reader import read_dump
from g4diag.matrix.cells import matrix
from g4diag.model import Incident
from tests.cli.test_inspect import DUMPS
from tests.injected.truth import FOLDER, Truth, truths

# File -> (the issue that it is, "" if none; issues that nothing in the file speaks against).
TRUTH: dict[str, tuple[str, set[str]]] = {
    "bigram-units-faulty.pt": ("bigram-units", {"evict-past-insert"}),
    "deferred-free-remap-faulty.pt": ("deferred-free-remap", set()),
    "draft-pool-too-small-faulty.pt": ("draft-pool-too-small", set()),
    "eagle-own-pool-allocator-seed0.pt": ("eagle-own-pool", set()),
    "evict-past-insert-faulty.pt": ("evict-past-insert", set()),
    "fa3-spec-swa-table-faulty.pt": ("fa3-spec-swa-table", set()),
    "flashinfer-double-read-upstream.pt": ("flashinfer-double-read", set()),
    "flashinfer-spec-window-evicted.pt": ("flashinfer-spec-window", set()),
    "flashinfer-spec-window-half-cure.pt": ("flashinfer-spec-window", set()),
    "fp8-write-full-index-faulty.pt": ("fp8-write-full-index", set()),
    "free-swa-per-token-upstream.pt": ("free-swa-per-token", set()),
    "frozen-draft-amx-upstream-seed0.pt": ("frozen-draft-amx", set()),
    "h100-eager-warn.pt": ("trtllm-mha-swa", set()),
    "h100-graph-contain.pt": ("trtllm-mha-swa", set()),
    "h100-postmortem.json": ("trtllm-mha-swa", set()),
    "h100-surfaced-elsewhere.log": ("", set()),
    "h200-fa4-eager-warn.pt": ("frozen-draft-fa", set()),
    "hybrid-wrapper-in-range-seed0.pt": ("hybrid-wrapper", set()),
    "legacy-allocator-last-page.pt": ("fork-allocator-bound", set()),
    "legacy-allocator.pt": ("", set()),
    # It names no backend, no worker and no space.
    "legacy-page-table.pt": ("", {"trtllm-mha-swa"}),
    "stale-mapping-on-recycle-faulty.pt": ("stale-mapping-on-recycle", set()),
    "table-width-draft-tokens-upstream.pt": ("table-width-draft-tokens", set()),
    "trtllm-mha-swa-faulty-seed0.pt": ("trtllm-mha-swa", set()),
    "xqa-strided-query-upstream.pt": ("xqa-strided-query", set()),
}


def matched_and_possible(incident: Incident) -> tuple[list[str], set[str]]:
    found = matches(incident)
    return [m.issue.id for m in found if m.is_matched], {m.issue.id for m in found if not m.is_matched}


@pytest.mark.parametrize("name", TRUTH)
def test_a_dump_is_its_own_issue_and_no_other(name: str) -> None:
    issue, possible = TRUTH[name]
    assert matched_and_possible(read_dump(DUMPS / name)) == ([issue] if issue else [], possible)


def test_every_sample_has_its_row() -> None:
    samples = {path.name for path in Path(DUMPS).iterdir() if path.suffix in (".pt", ".json", ".log")}
    assert samples == set(TRUTH)
    assert {issue for issue, _ in TRUTH.values()} - {""} <= {issue.id for issue in known_issues()}


def _cured_in(issue: str) -> str:
    """A release in which the matrix has the bug as cured, or not there yet; "" if there is none."""
    return next((cell.release for cell in matrix().row(issue) if cell.standing in ("cured", "not there yet")), "")


CURED = [(name, issue, release) for name, (issue, _) in TRUTH.items() if issue and (release := _cured_in(issue))]


@pytest.mark.parametrize(("name", "issue", "release"), CURED, ids=lambda value: str(value))
def test_a_release_that_has_the_cure_rules_the_issue_out(name: str, issue: str, release: str) -> None:
    """Unless a fault was put back on purpose, which makes the code another."""
    incident = read_dump(DUMPS / name)
    matched, possible = matched_and_possible(replace(incident, versions={"sglang": release}, manifest={}))
    assert issue not in matched and issue not in possible


def test_that_is_held_of_most_of_them() -> None:
    assert len(CURED) >= 12


@pytest.mark.parametrize("row", truths(), ids=lambda row: f"{row.fault}-{row.release}")
def test_an_injected_fault_that_is_no_known_issue_is_none(row: Truth) -> None:
    assert not row.issue
    for name in (*row.dumps, row.healthy):
        assert matched_and_possible(read_dump(FOLDER / name)) == ([], set())
