"""How a process of one scenario starts: the collector rests while sglang is imported, and torch's compiler stays out;
what runs no model imports nothing that does, and reads what it reads with all of sglang there."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.cli import contract
from g4diag.cli.main import run
from g4diag.discover import contributions
from g4diag.errors import VacuousError
from g4diag.report import repro_drive_json
from g4diag.scenario import Drive, DriveOutcome, Found, Options, Scenario, start
from g4diag.stack.drive import uncompiled
from tests.repro.conftest import silent
from tests.scenario.test_driven import made

ROOT = Path(__file__).parents[2]
ALONE = [row.value for row in contributions("repro", "SCENARIO") if row.error is None and row.value.without_model]
PROGRAM = """
import gc, json, sys
from g4diag.cli import contract
from g4diag.cli.main import run
from g4diag.hooks import on_demand
from g4diag.stack.drive import without_model
contract.own_process = True
code = run(sys.argv[1:])
heavy = sorted({"transformers", "flashinfer", "scipy", "torch._inductor.compile_fx"} & sys.modules.keys())
told = [code, on_demand.waiting(), sorted(without_model.runs_models()), heavy, gc.isenabled(), gc.get_freeze_count()]
print(json.dumps(told), file=sys.stderr)
"""


def compared(document: dict[str, Any]) -> dict[str, Any]:
    """What a scenario read: all but how long it took and where it wrote."""
    return document | {"seconds": None, "dumps": sorted(document["dumps"])}


@pytest.mark.parametrize("scenario", ALONE, ids=lambda scenario: scenario.name)
def test_without_a_model_one_reads_the_same_without_what_it_does_not_need(scenario: Scenario, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "repro", scenario.name, "--json", "--dump-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    code, waiting, runs_models, heavy, collects, frozen = json.loads(done.stderr.splitlines()[-1])
    planned = [f"sglang.srt.layers.attention.{name}_backend" for name in scenario.plans]
    assert (code, runs_models, collects) == (0, planned, True) and frozen > 10_000
    assert "sglang.srt.layers.quantization" in waiting
    assert {"flashinfer", "torch._inductor.compile_fx"} & set(heavy) <= set(scenario.plans)
    here = scenario.run(Options(dump_dir=tmp_path), silent)
    assert isinstance(here, DriveOutcome) and any(reading.checked for reading in here.readings)
    assert compared(json.loads(done.stdout)) == compared(json.loads(repro_drive_json.render(here)))


def test_there_are_such_scenarios() -> None:
    assert len(ALONE) >= 5 and [scenario.plans for scenario in ALONE if scenario.plans] == [("flashinfer",)]


def test_one_that_runs_a_forward_of_a_backend_that_only_plans_is_vacuous() -> None:
    from g4diag.stack.drive import cpu

    cpu.prepare_environment()

    def drive() -> Found:
        from sglang.srt.layers.attention.flashinfer_backend import FlashInferAttnBackend

        with suppress(AttributeError):
            FlashInferAttnBackend.forward_decode(object(), None, None, None, None, None)
        return Found(checked=1, damaged=0)

    planning = made(drive, Drive("upstream", ""), without_model=True, plans=("flashinfer",))
    with pytest.raises(VacuousError, match=r"made: vacuous: .*FlashInferAttnBackend\.forward_decode"):
        planning.run(Options(), silent)


def test_one_that_meets_a_backend_after_all_is_vacuous(monkeypatch: pytest.MonkeyPatch) -> None:
    """No probe looked at what that backend did."""
    name = "sglang.srt.layers.attention.triton_backend"
    monkeypatch.delitem(sys.modules, name, raising=False)

    def drive() -> Found:
        sys.modules[name] = ModuleType(name)
        return Found(checked=1, damaged=0)

    scenario = made(drive, Drive("upstream", ""), without_model=True)
    with pytest.raises(VacuousError, match=f"made: vacuous: .*{name}"):
        scenario.run(Options(), silent)


def test_traps_see_what_an_allocator_alone_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a dump has its pools, with their free lists."""
    from g4diag.scenario.seen import watching_without_model
    from g4diag.stack.drive.allocators import PAGE, extend, small_allocator
    from g4diag.stack.drive.swa_pool import set_next_pages

    with watching_without_model("made") as seen:
        allocator = small_allocator()
        extend(allocator, PAGE)
        assert seen.views and not seen.violations
        set_next_pages(allocator.swa_attn_allocator, [99, 3])
        allocator.swa_attn_allocator.alloc(PAGE)
        assert seen.fired()
    incident = seen.incident()
    assert incident is not None and [pool.name for pool in incident.pools] == ["full", "swa"]
    assert all(pool.free_pages_N is not None for pool in incident.pools)


def test_the_collector_rests_between_begin_and_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = list[bool]()
    monkeypatch.setattr(uncompiled, "install", lambda: installed.append(gc.isenabled()))
    scenario = made(lambda: Found(1, 0), Drive("upstream", ""))
    frozen, finders = gc.get_freeze_count(), list(sys.meta_path)
    start.imported()
    assert gc.get_freeze_count() == frozen, "a process that did not begin so is left as it is"
    try:
        start.begin(scenario)
        assert not gc.isenabled() and sys.meta_path == finders and installed == [False]
        kept = [[] for _ in range(1000)]
        start.imported()
        assert gc.isenabled() and gc.get_freeze_count() >= frozen + len(kept)
    finally:
        gc.enable()


def test_a_command_that_is_a_guest_begins_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not contract.own_process
    monkeypatch.setattr(start, "begin", lambda scenario: pytest.fail("begun"))
    assert run(["repro", ALONE[0].name, "--json", "--dump-dir", str(tmp_path)]) == 0
