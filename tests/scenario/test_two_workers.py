"""`repro --all` on two workers reads what it reads on one: each scenario has a process of its own, and what two of them
share, the machine and the folder of dumps, is no part of a reading."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.scenario import Board
from g4diag.scenario.catalogue import Children, listed, run_all
from tests.repro.conftest import silent

# Allocators alone, which take seconds, and one that serves a model.
NAMES = ("bigram-units", "deferred-free-remap", "free-swa-per-token", "stale-mapping-on-recycle")


@dataclass
class Recorded:
    """Real children. documents: what each printed. most: how many ran at one time."""

    children: Children = field(default_factory=Children)
    documents: dict[str, Any] = field(default_factory=dict)
    running: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, arguments: Sequence[str]) -> tuple[int, str, str]:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            code, out, said = self.children.run(arguments)
        finally:
            with self.lock:
                self.running -= 1
        self.documents[arguments[1]] = json.loads(out) if out else None
        return code, out, said


def ran(jobs: int, folder: Path) -> tuple[Board, Recorded]:
    recorded = Recorded()
    chosen = [each for each in listed() if each.error is None and each.value.name in NAMES]
    return run_all(chosen, jobs, folder, silent, recorded.run), recorded


def compared(document: dict[str, Any]) -> dict[str, Any]:
    """All of it but how long it took and where it wrote."""
    return document | {"seconds": None, "dumps": {state: Path(path).name for state, path in document["dumps"].items()}}


def differing(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    """Scenarios that did not print the same."""
    return sorted(name for name in one.keys() | two.keys() if compared(one[name]) != compared(two[name]))


def test_two_at_a_time_read_what_one_reads(tmp_path: Path) -> None:
    (one, alone), (two, together) = ran(1, tmp_path / "one"), ran(2, tmp_path / "two")
    assert (alone.most, together.most) == (1, 2)
    rows = [tuple(replace(row, seconds=0.0) for row in board.rows) for board in (one, two)]
    assert rows[0] == rows[1] and tuple(row.scenario for row in rows[0]) == NAMES
    assert one.exit_code == two.exit_code == 0
    assert alone.documents.keys() == together.documents.keys() == set(NAMES)
    assert differing(alone.documents, together.documents) == []
    for name in NAMES:
        readings = alone.documents[name]["readings"]
        assert readings and all(reading["checked"] for reading in readings)
        assert any(reading["traps"] for reading in readings) == bool(alone.documents[name]["dumps"])
    dumps = [sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in ("one", "two")]
    assert dumps[0] == dumps[1] != []


def test_a_reading_that_differs_is_seen_and_a_time_is_not() -> None:
    document = {
        "readings": [{"state": "faulty", "damaged": 3}],
        "seconds": {"faulty": 1.0},
        "dumps": {"faulty": "a/x.pt"},
    }
    slower = document | {"seconds": {"faulty": 9.0}, "dumps": {"faulty": "b/x.pt"}}
    worse = document | {"readings": [{"state": "faulty", "damaged": 4}]}
    assert differing({"x": document}, {"x": slower}) == []
    assert differing({"x": document}, {"x": worse}) == ["x"]
