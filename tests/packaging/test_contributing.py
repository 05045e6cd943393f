"""CONTRIBUTING's worked examples work: each is found, told apart, fires, or is matched, as its kind does."""

from __future__ import annotations

import io
import re
import sys
import tomllib
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import g4diag.traps
from g4diag.analyzers import inspect_incident, issues, matching
from g4diag.discover import contributions
from g4diag.dump.server_log import incident_of
from g4diag.hooks.anchors import pin
from g4diag.logs.reading import read_log
from g4diag.patches.contract import Source, fit
from tests import samples

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(kind: str, holds: str) -> str:
    (found,) = (each for each in re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL) if holds in each)
    return str(found)


def test_the_trap_is_found_by_being_there_and_fires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_page_is_negative.py").write_text(example("python", "TRAP = "))
    monkeypatch.setattr(g4diag.traps, "__path__", [*g4diag.traps.__path__, str(tmp_path)])
    try:
        (found,) = (row for row in contributions("g4diag.traps", "TRAP") if row.name == "no_page_is_negative")
        assert found.error is None and found.value.name == found.name
        healthy = samples.healthy_read()
        assert not list(found.value.judge(healthy))
        broken = samples.healthy_read(page_table_BP=np.full_like(healthy.page_table_BP, -1))
        (violation,) = found.value.judge(broken)
        assert violation.count > 0 and "negative" in violation.summary
    finally:
        sys.modules.pop("g4diag.traps.no_page_is_negative", None)


@pytest.mark.parametrize(("text", "state"), [("self.pages - 1", "available"), ("self.pages", "refused")])
def test_the_patch_fits_the_text_it_is_made_for_and_cures_it(text: str, state: str, tmp_path: Path) -> None:
    module = f"class Pool:\n    pages = 4\n\n    def count(self):\n        return {text}\n"
    (tmp_path / "made_up").mkdir()
    (tmp_path / "made_up" / "__init__.py").write_text("")
    (tmp_path / "made_up" / "pool.py").write_text(module)
    space: dict[str, Any] = {}
    exec(example("python", "PATCH = "), space)
    found = fit(space["PATCH"], Source("0.5.23", partial(pin, root=tmp_path)))
    assert found.state == state
    assert fit(space["PATCH"], Source("0.5.12", partial(pin, root=tmp_path))).state == "not-applicable"
    exec(module, space)
    (hook,) = space["PATCH"].hooks()
    if state == "available":
        assert hook.function(space["Pool"].count, space["Pool"]()) == space["Pool"].pages


def test_the_known_issue_is_read_and_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = tomllib.loads(example("toml", "[[issue]]"))["issue"]
    issue = issues._entry(row)
    monkeypatch.setattr(matching, "known_issues", lambda: (issue,))
    log = (
        "[2026-06-01 01:00:00] Scheduler hit an exception: Traceback (most recent call last):\n"
        '  File "/x/sglang/srt/layers/attention/base.py", line 7, in update_window\n'
        "    self.window = window - 1\n"
        "TypeError: window is a float\n"
    )
    incident = incident_of(read_log(io.BytesIO(log.encode()), "x.log"), len(log), "x.log")
    (finding,) = inspect_incident(incident, "x.log").of("known_issues")
    assert finding.data["id"] == "made-up-window" and finding.grade == "derived"


def test_the_backend_hands_its_table_over_with_the_rows_it_is_of() -> None:
    space: dict[str, Any] = {}
    exec(example("python", "ATTENTION = "), space)
    attention = space["ATTENTION"]
    assert attention.name == "made_up_mla" and attention.chosen_by == ("made_up_mla",)
    table_BP, lengths_B = np.array([[3, 4], [7, 0]], dtype=np.int32), np.array([70, 5], dtype=np.int32)
    pages = attention.calls[0].table(page_table=table_BP, seq_lens=lengths_B)
    batch = SimpleNamespace(
        req_pool_indices=np.array([5, 2, 0]),
        spec_info=None,
        forward_mode=SimpleNamespace(is_decode_or_idle=lambda: True),
    )
    backend = SimpleNamespace(forward_metadata=SimpleNamespace(block_kv_indices=table_BP))
    handed = attention.handed(backend, None, batch, pages)
    assert handed.table_BP is table_BP and handed.lengths_B is lengths_B and handed.is_bound_only
    assert handed.rows_B.tolist() == [5, 2] and not handed.is_graph
    assert attention.calls[0].table(seq_lens=lengths_B) is None, "a call without a table hands none"


def test_the_release_is_told_by_its_text_and_moves_one_place(tmp_path: Path) -> None:
    space: dict[str, Any] = {}
    exec(example("python", "RELEASE = "), space)
    release, before = space["RELEASE"], space["_BEFORE"]
    assert release.means("0.5.24") and not release.means("0.5.23")
    (tmp_path / "made_up").mkdir()
    (tmp_path / "made_up" / "__init__.py").write_text("")
    for text, fits in (
        ("class Rows:\n    def give_back(self, req):\n        pass\n", True),
        ("class Rows:\n    pass\n", False),
    ):
        (tmp_path / "made_up" / "rows.py").write_text(text)
        assert all(pin(anchor, root=tmp_path).matched for anchor in release.known_by) is fits
    moved = {name for name, point in release.points.items() if point != before.points[name]}
    assert moved == {"rows.free"} and release.points["rows.free"].path == "made_up.rows.Rows.give_back"
