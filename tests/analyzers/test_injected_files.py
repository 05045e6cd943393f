"""The dumps of injected faults and their truth: all there, small, and judged as the truth says. Needs no stack."""

from __future__ import annotations

import tomllib
from itertools import groupby
from pathlib import Path

import pytest

from g4diag.dump.reader import read_dump
from g4diag.stack.live.selection import traps
from tests.injected.truth import FOLDER, TRUTH, Truth, truths

ROOT = Path(__file__).resolve().parents[2]
TRUTHS = truths()
RELEASES = {"0.5.13", "0.5.23"}
SMALL = 60_000


def judged(*names: str) -> tuple[int, set[str]]:
    """(views that some trap looked at, names of traps that fire) in these files."""
    views = [view for name in names for view in read_dump(FOLDER / name).views()]
    seen = [(view, trap) for view in views for trap in traps().values() if isinstance(view, trap.judges)]
    return len(seen), {bad.trap for view, trap in seen for bad in trap.judge(view)}


@pytest.mark.parametrize("row", TRUTHS, ids=lambda row: f"{row.fault}-{row.release}")
def test_dumps_are_judged_as_the_truth_says_and_the_twins_are_silent(row: Truth) -> None:
    seen, fired = judged(*row.dumps)
    assert seen and fired == set(row.offline)
    seen, fired = judged(row.healthy)
    assert seen and not fired


# What there is to break is in this release alone: `Fault.lacks`, which tests/stack asks of each.
OF_ONE_RELEASE = {
    "restore-forgets-swa": "0.5.13",
    "unfinished-insert-drops-boundary-legacy": "0.5.13",
    "unfinished-insert-drops-boundary": "0.5.23",
    "segment-frees-dummy": "0.5.23",
}


def test_every_fault_is_there_on_both_releases() -> None:
    assert len(TRUTHS) >= 50
    for fault, rows in groupby(TRUTHS, key=lambda row: row.fault):
        wanted = {OF_ONE_RELEASE[fault]} if fault in OF_ONE_RELEASE else RELEASES
        assert {row.release for row in rows} == wanted, fault


def test_what_is_there_is_told_and_small() -> None:
    told = {name for row in TRUTHS for name in (*row.dumps, row.healthy)}
    assert {path.name for path in FOLDER.iterdir()} == told | {TRUTH.name}
    assert not [path.name for path in FOLDER.iterdir() if path.stat().st_size > SMALL and path != TRUTH]


def test_a_file_says_what_its_server_was() -> None:
    for row in TRUTHS:
        for name in (*row.dumps, row.healthy):
            incident = read_dump(FOLDER / name)
            assert incident.versions["sglang"] == row.release
            assert incident.context["server"]["flags"]["page_size"] == 16
            assert not incident.manifest["faults"], "a reader is not told the answer"


def test_issues_are_known_ones() -> None:
    known = tomllib.loads((ROOT / "g4diag/analyzers/known_issues.toml").read_text(encoding="utf-8"))["issue"]
    named = {issue for row in TRUTHS for issue in (*row.must_not, row.issue) if issue}
    assert named and named <= {issue["id"] for issue in known}
