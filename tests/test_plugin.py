"""The entry point is inert unless armed, and all or nothing when it is."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag import guard, plugin
from g4diag.dump.ring import read_ring
from g4diag.hooks.manifest import armed_manifest
from g4diag.patches import applying
from g4diag.patches.contract import unmatched
from g4diag.stack import releases
from g4diag.stack.drive.backends import flash_attention_imports
from g4diag.stack.live import selection
from tests.marks import starts_sglang


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    plugin.disarm()
    yield
    plugin.disarm()


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("G4DIAG_")} | variables
    return subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("variables", [{}, {"G4DIAG_PATCHES": "none", "G4DIAG_TRAPS": ""}])
def test_with_nothing_armed_it_imports_nothing_heavy(variables: dict[str, str]) -> None:
    done = python(
        "import sys, g4diag.plugin as p; p.register(); assert p.outcome().state == 'inert';"
        "assert not {'sglang', 'torch', 'triton', 'numpy', 'packaging'} & set(sys.modules)",
        **variables,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


@starts_sglang
def test_sglang_loads_it_and_a_process_that_ends_armed_ends_quietly(tmp_path: Path) -> None:
    """First with the recorder alone, then with all there is; in one process, since each takes long to start."""
    done = python(
        "from sglang.srt.plugins import load_plugins; load_plugins(); import os, sys;"
        "import g4diag.plugin as p; assert p.outcome().state == 'armed', p.outcome();"
        "from g4diag.stack.live import recorder; recorder.mark('verdict', 'x', 3); p.disarm();"
        "os.environ.update(G4DIAG_PATCHES='faulty-rule,patch-e', G4DIAG_TRAPS='page_table_stays_in_pool');"
        "p.register(); print(p.outcome().manifest);"
        "from g4diag.patches import applying; sys.exit(len(applying.problems()))",
        SGLANG_PLUGINS="g4diag",
        G4DIAG_RECORDER="on",
        G4DIAG_DUMP_DIR=str(tmp_path),
    )
    assert done.returncode == 0 and "'faults': ['faulty-rule']" in done.stdout, done.stderr
    assert done.stderr.count("g4diag armed: {") == 2 and "Traceback" not in done.stderr, done.stderr
    ring = min(tmp_path.glob("ring-*.g4ring"), key=lambda path: path.stat().st_mtime_ns)
    assert [(record.kind, record.step) for record in read_ring(ring).records] == [("verdict", 3)]


def test_with_nothing_armed_it_adds_no_hook() -> None:
    from sglang.srt.plugins.hook_registry import HookRegistry

    before = dict(HookRegistry._hooks), set(HookRegistry._patched)
    plugin.register()
    assert (dict(HookRegistry._hooks), set(HookRegistry._patched)) == before and not applying.problems()


@pytest.fixture
def without_swa_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """An sglang in which one place is not there that the allocator's traps look at."""
    release = releases.current()
    points = {name: point for name, point in release.points.items() if name != "swa.built"}
    lacking = replace(release, points=points)
    for module in ("allocation", "pool_swap", "workers", "pools", "mapping_update"):
        monkeypatch.setattr(f"g4diag.stack.probes.{module}.current", lambda: lacking)


def test_a_trap_that_does_not_fit_is_told_and_the_rest_is_armed(
    without_swa_built: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("G4DIAG_TRAPS", "slot_inside_allocator,page_table_stays_in_pool")
    with caplog.at_level(logging.WARNING):
        plugin.register()
    outcome = plugin.outcome()
    assert outcome.state == "armed" and outcome.manifest["traps"] == ["page_table_stays_in_pool"]
    (told,) = outcome.not_armed
    assert told == "slot_inside_allocator: swa.built: wanted a place to hook in this release, found none known"
    assert f"g4diag trap NOT ARMED: {told}" in [record.getMessage() for record in caplog.records]


def test_a_required_trap_that_does_not_fit_arms_nothing(
    without_swa_built: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard.set_raising(False)
    monkeypatch.setenv("G4DIAG_TRAPS", "slot_inside_allocator,page_table_stays_in_pool")
    monkeypatch.setenv("G4DIAG_REQUIRE", "slot_inside_allocator")
    plugin.register()
    outcome = plugin.outcome()
    assert outcome.state == "failed" and "wanted a place to hook in this release" in outcome.error
    assert armed_manifest() == {"patches": [], "faults": [], "traps": []}


def test_every_applicable_patch_is_applied_and_verified(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fitting = [patch for patch in applying.patches().values() if not unmatched(patch)]
    names = [patch.name for patch in fitting if applying.status(patch).can_apply]
    monkeypatch.setenv("G4DIAG_PATCHES", ",".join(names))
    monkeypatch.setenv("G4DIAG_TRAPS", "all")
    # A fault of fa3 is among them, and its module wants a GPU's libraries.
    with flash_attention_imports():
        with caplog.at_level(logging.WARNING):
            plugin.register()
            plugin.register()
        manifest = plugin.outcome().manifest
        assert plugin.outcome().state == "armed" and manifest == armed_manifest()
        assert sorted(manifest["patches"] + manifest["faults"]) == sorted(names) and not applying.problems()
        assert manifest["traps"] == sorted(selection.traps())
        assert caplog.text.count("g4diag armed: {") == 1 and "FAULT STATE" in caplog.text
        plugin.disarm()
    assert not any(armed_manifest().values())


def test_all_picks_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("G4DIAG_PATCHES", "all")
    plugin.register()
    assert plugin.outcome().state == "armed" and not plugin.outcome().manifest["faults"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("G4DIAG_PATCHES", "clamp,nonsense"), ("G4DIAG_TRAPS", "nonsense"), ("G4DIAG_NONSENSE", "1")],
)
def test_a_failure_is_recorded_and_loud_and_never_raised(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, text: str
) -> None:
    guard.set_raising(False)
    monkeypatch.setenv("G4DIAG_PATCHES", "clamp")
    monkeypatch.setenv(name, text)
    plugin.register()
    assert plugin.outcome().state == "failed" and "onsense" in plugin.outcome().error.lower()
    assert "NOT ARMED" in caplog.text and not any(armed_manifest().values())


@pytest.mark.parametrize(
    ("variables", "shown"), [({}, False), ({"G4DIAG_TRACEBACK": "1"}, True), ({"G4DIAG_NONSENSE": "1"}, False)]
)
def test_a_refusal_of_ours_is_one_line_and_no_traceback_unless_asked(variables: dict[str, str], shown: bool) -> None:
    done = python("import g4diag.plugin as p; p.register()", G4DIAG_TRAPS="nonsense", **variables)
    assert done.stderr.startswith("g4diag NOT ARMED, this server runs without it: UsageError: unknown ")
    assert ("Traceback" in done.stderr) is shown and (done.stderr.count("\n") == 1) is not shown


def test_a_defect_of_ours_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    guard.set_raising(False)
    monkeypatch.setattr(plugin, "_arm", lambda settings: {}["no such key"])
    plugin.register()
    assert "KeyError" in plugin.outcome().error and "Traceback" in caplog.text


def test_under_tests_a_failure_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("G4DIAG_PATCHES", "nonsense")
    with pytest.raises(Exception, match="nonsense"):
        plugin.register()


@pytest.mark.parametrize(("wanted", "served"), [("on", True), ("off", False)])
def test_metrics_come_with_traps_unless_they_are_off(
    wanted: str, served: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from g4diag.stack.live import arming, metrics

    asked: list[float | None] = []
    monkeypatch.setattr(arming, "armed", lambda *args, **named: arming.Armed())  # that they arm is shown above
    monkeypatch.setattr(metrics, "armed", lambda on, healthy: asked.append(healthy) or nullcontext())
    monkeypatch.setenv("G4DIAG_TRAPS", "query_rows_are_packed")
    monkeypatch.setenv("G4DIAG_METRICS", wanted)
    monkeypatch.setenv("G4DIAG_HEALTHY_ACCEPT", "2.8")
    plugin.register()
    assert plugin.outcome().state == "armed" and asked == [2.8] * served
