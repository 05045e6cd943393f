"""The matrix of releases: its data is whole, agrees with what is said elsewhere, and its reader refuses the rest."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from importlib import resources
from typing import Any

import pytest

from g4diag.analyzers.matching import KnownIssue, known_issues
from g4diag.errors import UsageError
from g4diag.hazards.deployment import Deployment
from g4diag.hazards.judging import hazards
from g4diag.matrix.cells import STANDINGS, Cell, Matrix, known_release, matrix, read, rendered, replaced
from g4diag.scenario.catalogue import scenarios
from tests.contracts import wheels
from tests.hazards.test_hazards import (
    ASSISTANT,
    EAGER,
    HOPPER_SPLIT,
    NAMED,
    SPECULATIVE,
    TRITON_DRAFT,
    TRTLLM,
    VERIFY_ON_DECODE,
    deployment,
)

DATA = resources.files("g4diag.matrix").joinpath("cells.json").read_text(encoding="utf-8")
ISSUES = {issue.id: issue for issue in known_issues()}
ROWS = [issue for issue in known_issues() if matrix().row(issue.id)]
RELEASE = re.compile(r"\b\d+\.\d+\.\d+(?:\.post\d+)?\b")
CELL = matrix().cells[0]


def test_it_knows_the_releases_whose_wheels_are_known() -> None:
    assert matrix().releases == wheels.RELEASES


def test_every_scenario_and_issue_of_it_exists() -> None:
    named = {cell.scenario for cell in matrix().cells} - {""}
    assert named and named <= set(scenarios()) & set(ISSUES)
    others = {cell.issue for cell in matrix().cells} - {""}
    assert others <= set(ISSUES) - set(scenarios()), "what a scenario shows is named as a scenario"


def test_every_scenario_of_a_release_has_a_row() -> None:
    """A line of Python that reports a fault is of no release."""
    assert set(scenarios()) - set(matrix().bugs) == {"surfaced-elsewhere"}


def test_it_says_both_what_ran_and_what_was_read() -> None:
    assert {cell.standing for cell in matrix().cells} <= set(STANDINGS)
    assert {cell.ran for cell in matrix().cells} == {True, False}
    assert all(cell.command for cell in matrix().cells if cell.ran)
    assert all(cell.source for cell in matrix().cells if not cell.ran)


def test_the_file_is_as_its_writer_writes_it() -> None:
    assert rendered(read(DATA)) == DATA


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"release": "0.5.99"}, "wanted one of 0.5.12.post1"),
        ({"standing": "dead"}, "wanted one of alive"),
        ({"ran": "yes"}, "ran: true or false"),
        ({"date": "28.11.2026"}, "a date such as"),
        ({"ran": False, "source": ""}, "the source that was read"),
        ({"ran": True, "command": ""}, "the command that ran"),
        ({"standing": "cannot run", "why": ""}, "why it is cannot run"),
        ({"standing": "unknown", "why": ""}, "why it is unknown"),
        ({"issue": "another"}, "a scenario or an issue"),
        ({"scenario": ""}, "a scenario or an issue"),
        ({"scenario": "No Name"}, "a name with dashes"),
        ({"more": 1}, "found ["),
    ],
)
def test_a_wrong_cell_is_refused_by_name(changes: dict[str, Any], says: str) -> None:
    document = {"schema": 1, "releases": list(matrix().releases), "cells": [asdict(CELL) | changes]}
    with pytest.raises(ValueError, match=re.escape(says)):
        read(json.dumps(document))


def test_another_schema_and_a_cell_twice_are_refused() -> None:
    document = {"schema": 1, "releases": list(matrix().releases), "cells": [asdict(CELL)] * 2}
    with pytest.raises(ValueError, match="two of"):
        read(json.dumps(document))
    with pytest.raises(ValueError, match="schema: wanted 1, found 2"):
        read(json.dumps(document | {"schema": 2}))


def test_a_cell_replaces_its_like_and_others_stay() -> None:
    new = replace(CELL, standing="alive", why="seen")
    after = replaced(matrix(), [new])
    assert after.cell(CELL.bug, CELL.release) == new
    assert len(after.cells) == len(matrix().cells) and after.cells[1:] == matrix().cells[1:]
    more = replace(CELL, scenario="one-more", release="0.5.23")
    assert replaced(matrix(), [more]).cells == (*matrix().cells, more)
    with pytest.raises(ValueError, match="a date such as"):
        replaced(matrix(), [replace(new, date="")])


@pytest.mark.parametrize(
    ("text", "release"), [("0.5.13", "0.5.13"), ("v0.5.13.post1", "0.5.13.post1"), ("0.5.23+cu130", "0.5.23")]
)
def test_a_release_is_known_however_it_is_written(text: str, release: str) -> None:
    assert known_release(text, matrix()) == release


def test_another_version_and_no_version_are_told_apart() -> None:
    with pytest.raises(KeyError, match=re.escape("0.6.0")):
        known_release("0.6.0", matrix())
    with pytest.raises(UsageError, match="newest"):
        known_release("newest", matrix())


@pytest.mark.parametrize("issue", ROWS, ids=lambda issue: issue.id)
def test_a_known_issue_names_no_release_that_the_matrix_speaks_of(issue: KnownIssue) -> None:
    assert not set(RELEASE.findall(issue.affected)) & set(matrix().releases)


@pytest.mark.parametrize("issue", ROWS, ids=lambda issue: issue.id)
def test_a_release_that_is_told_as_a_cure_has_none_of_it(issue: KnownIssue) -> None:
    for release in re.findall(rf"\bsglang ({RELEASE.pattern})", issue.cure):
        at = matrix().releases.index(release)
        newer = matrix().releases[at:] if f"{release} or newer" in issue.cure else (release,)
        assert not [name for name in newer if _stands(issue.id, name) == "alive"]
        assert _stands(issue.id, release) == "cured"


def _stands(bug: str, release: str) -> str | None:
    found = matrix().cell(bug, release)
    return found.standing if found else None


B200 = (10, 0)
# Bug, hazard, and a server that meets the bug in every release that has it.
MEETS: list[tuple[str, str, Deployment]] = [
    ("hybrid-wrapper", "hybrid-draft-backend", deployment(SPECULATIVE | HOPPER_SPLIT)),
    ("stale-out-cache-loc", "eager-draft-out-cache-loc", deployment(SPECULATIVE | HOPPER_SPLIT | NAMED | EAGER)),
    ("xqa-strided-query", "xqa-strided-query", deployment(SPECULATIVE | HOPPER_SPLIT | NAMED)),
    ("xqa-strided-query", "xqa-strided-query", deployment(HOPPER_SPLIT, capability=(12, 0))),
    ("xqa-strided-verify", "xqa-strided-query", deployment(SPECULATIVE | HOPPER_SPLIT | NAMED | VERIFY_ON_DECODE)),
    ("xqa-verify-mask", "xqa-verify-mask", deployment(SPECULATIVE | HOPPER_SPLIT | NAMED | VERIFY_ON_DECODE)),
    (
        "frozen-draft-fa",
        "frozen-draft-fa",
        deployment(SPECULATIVE | HOPPER_SPLIT | {"speculative-draft-attention-backend": "fa4"}),
    ),
    (
        "eagle-own-pool",
        "allocator-rule-draft",
        deployment(SPECULATIVE | TRTLLM, draft={"architectures": ["X"]}, capability=B200),
    ),
    ("trtllm-mha-swa", "own-pool-rule-draft", deployment(SPECULATIVE | TRTLLM, capability=B200)),
    ("swa-ratio-starvation", "swa-ratio-dense", deployment({"swa-full-tokens-ratio": "0.15"} | TRITON_DRAFT)),
]


@pytest.mark.parametrize(("bug", "hazard", "server"), MEETS)
def test_a_hazard_holds_where_its_bug_is_alive_and_nowhere_else(bug: str, hazard: str, server: Deployment) -> None:
    assert server.draft in (ASSISTANT, {"architectures": ["X"]})
    row, judged = matrix().row(bug), hazards()[hazard]
    assert row
    for cell in (each for each in row if each.standing not in ("unknown", "cannot run")):
        at = replace(server, sglang=cell.release)
        held = at.is_in(judged.releases) and judged.found(at) is not None
        assert held == (cell.standing == "alive"), cell


def test_that_test_bites() -> None:
    """With the standing of one cell turned over, the hazard and the matrix part."""
    bug, hazard, server = MEETS[0]
    wrong = replace(matrix().row(bug)[-1], standing="cured")
    at = replace(server, sglang=wrong.release)
    assert at.is_in(hazards()[hazard].releases) != (wrong.standing == "alive")


def test_rows_come_in_the_order_of_releases() -> None:
    cells = [replace(CELL, release=release) for release in reversed(matrix().releases)]
    found = read(rendered(Matrix(matrix().releases, tuple(cells))))
    assert tuple(cell.release for cell in found.row(CELL.bug)) == matrix().releases
    assert isinstance(found.cells[0], Cell)
