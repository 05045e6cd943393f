"""The frozen-KV SWA bug on the real classes: every state, both paths, against the logical truth."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from g4diag.analyzers import inspect_file
from g4diag.dump.reader import read_dump
from g4diag.errors import CannotRunError, UsageError, VacuousError
from g4diag.hooks.versions import version_of
from g4diag.report import repro_json
from g4diag.scenario import Options, Outcome, Reading
from g4diag.stack.drive.attention_memory import AttentionMemory
from g4diag.stack.drive.reference import attend
from g4diag.stack.releases import current
from repro.trtllm_mha_swa import SCENARIO
from tests.releases import unlike
from tests.repro.conftest import silent

BOTH = ("eager", "graph")


def reading(outcome: Outcome, state: str, path: str) -> Reading:
    """The one row of this state and path."""
    (found,) = [row for row in outcome.readings if (row.state, row.path) == (state, path)]
    return found


def test_every_state_behaves_as_its_file_says(outcome: Outcome) -> None:
    assert [(row.state, row.path, row.outcome) for row in outcome.readings if not row.as_expected] == []
    assert len(outcome.readings) == 2 * len(SCENARIO.states) and outcome.left_out == ()
    assert outcome.cell is not None and outcome.cell.standing == "cured"


def test_every_reading_checked_entries_where_the_two_spaces_diverge(outcome: Outcome) -> None:
    for row in outcome.readings:
        assert row.checked > 0 and row.divergent > 0, (row.state, row.path)
        assert row.swa_use > 0.85


@pytest.mark.parametrize("path", BOTH)
@pytest.mark.parametrize("state", ["upstream", "patch-e", "twin-upstream", "twin-faulty", "twin-patch-e"])
def test_right_states_equal_the_truth_bit_for_bit_and_no_trap_fires(outcome: Outcome, state: str, path: str) -> None:
    row = reading(outcome, state, path)
    assert (row.out_of_range, row.wrong_in_range, row.relative_error, row.agreement) == (0, 0, 0.0, 1.0)
    # At rest a frozen draft built under the faulty rule has no SWA state: only its reads and views are judged.
    assert row.traps == ()


@pytest.mark.parametrize("path", BOTH)
def test_faulty_leaves_the_pool_and_has_a_silent_phase(outcome: Outcome, path: str) -> None:
    row = reading(outcome, "faulty", path)
    assert row.out_of_range > 0 and row.wrong_in_range > 0 and row.largest >= row.bound
    assert row.agreement is not None and row.agreement < 1.0
    assert set(row.traps) == {"page_table_stays_in_pool", "page_table_in_layer_space", "swa_state_follows_pool"}


@pytest.mark.parametrize("path", BOTH)
def test_clamp_hides_the_fault_and_reads_wrong_kv(outcome: Outcome, path: str) -> None:
    row = reading(outcome, "clamp", path)
    assert row.out_of_range == 0 and row.wrong_in_range > 0 and row.largest == row.bound - 1
    assert row.relative_error > 0.5
    assert row.agreement is not None and row.agreement < 0.9
    assert "page_table_in_layer_space" in row.traps


def test_patch_e_on_the_views_alone_is_right_eager_and_faults_under_graphs(outcome: Outcome) -> None:
    assert reading(outcome, "patch-e-views", "eager").outcome == "equal"
    graph = reading(outcome, "patch-e-views", "graph")
    assert graph.out_of_range == reading(outcome, "faulty", "graph").out_of_range
    assert "swa_state_follows_pool" in graph.traps


@pytest.mark.parametrize("path", BOTH)
def test_the_allocator_rule_translates_the_twin_and_no_id_leaves_its_pool(outcome: Outcome, path: str) -> None:
    row = reading(outcome, "twin-allocator", path)
    assert row.out_of_range == 0 and row.wrong_in_range > 0 and row.relative_error > 0.5
    assert set(row.traps) == {"page_table_in_layer_space", "swa_state_follows_pool"}


def test_the_dump_names_the_read_the_table_showed(outcome: Outcome) -> None:
    assert outcome.dump is not None and outcome.first is not None
    assert outcome.first.trap == "page_table_stays_in_pool"
    assert (
        f"page {outcome.first.value}" in outcome.lines[0]
        and f"past the last of {outcome.first.bound} " in outcome.lines[0]
    )
    inspection = inspect_file(outcome.dump)
    assert inspection.outcome.exit_code == 1
    assert next(finding.text for finding in inspection.of("verdict")) == outcome.lines[0]


def test_the_dump_says_what_was_armed(outcome: Outcome) -> None:
    assert outcome.dump is not None
    incident = read_dump(outcome.dump)
    assert incident.manifest["faults"] == ["faulty-rule"] and incident.manifest["patches"] == []
    assert set(incident.manifest["traps"]) >= {"page_table_stays_in_pool", "swa_state_follows_pool"}
    assert incident.versions["sglang"] == version_of("sglang") and incident.context["state"] == "faulty"
    assert incident.requests and incident.mapping is not None and len(incident.pools) == 2


def test_the_committed_dump_is_what_this_scenario_writes(outcome: Outcome) -> None:
    committed = Path(__file__).parents[2] / "dumps" / "trtllm-mha-swa-faulty-seed0.pt"
    assert outcome.dump is not None
    if current().name != read_dump(committed).versions["sglang"]:
        pytest.skip(f"it is of {read_dump(committed).versions['sglang']}")
    written, kept = inspect_file(outcome.dump), inspect_file(committed)
    assert [f.text for f in written.of("verdict")] == [f.text for f in kept.of("verdict")]


def test_the_same_seed_gives_the_same_json_apart_from_times(tmp_path: Path) -> None:
    options = Options(seed=3, states=("faulty", "twin-allocator"), dump_dir=tmp_path)
    first, second = (SCENARIO.run(options, silent) for _ in range(2))
    assert first.seconds.keys() == second.seconds.keys()
    assert repro_json.render(replace(first, seconds={})) == repro_json.render(replace(second, seconds={}))


def test_neither_kept_attention_nor_inference_mode_changes_a_reading(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = Options(seed=3, states=("faulty", "patch-e", "twin-faulty", "twin-allocator"), dump_dir=tmp_path)
    told = []
    for limit, mode in ((1 << 30, torch.inference_mode), (0, nullcontext)):
        inferring = set[bool]()
        memory = AttentionMemory(partial(_attend_in, inferring), limit)
        monkeypatch.setattr("g4diag.stack.drive.observer.AttentionMemory", lambda function, kept=memory: kept)
        monkeypatch.setattr(torch, "inference_mode", mode)
        told.append(repro_json.render(replace(SCENARIO.run(options, silent), seconds={})))
        assert (memory.given_again > 100) is (limit > 0) and inferring == {mode is not nullcontext}
    assert told[0] == told[1]


def _attend_in(inferring: set[bool], *arguments: Any) -> torch.Tensor:
    inferring.add(torch.is_inference_mode_enabled())
    return attend(*arguments)


def test_one_unchunked_request_in_a_fresh_pool_is_vacuous() -> None:
    with pytest.raises(VacuousError, match="identity") as vacuous:
        SCENARIO.run(Options(states=("faulty",), requests=1, chunk=0), silent)
    assert vacuous.value.exit_code == 4


def test_a_pool_as_large_as_the_full_one_is_inconclusive_rather_than_as_expected(tmp_path: Path) -> None:
    with pytest.raises(VacuousError):
        SCENARIO.run(Options(states=("faulty",), ratio=1.0, dump_dir=tmp_path), silent)


def test_a_cure_that_does_nothing_is_not_as_expected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cureless = tuple(
        replace(state, patches=("faulty-rule",)) if state.name == "patch-e" else state for state in SCENARIO.states
    )
    monkeypatch.setattr("repro.trtllm_mha_swa.SCENARIO", replace(SCENARIO, states=cureless))
    broken = SCENARIO.run(Options(states=("patch-e",), dump_dir=tmp_path), silent)
    assert not broken.as_expected
    assert {row.outcome for row in broken.readings} == {"faults"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options(page_size=48), "16, 32 or 64"),
        (Options(requests=0), "at least 1"),
        (Options(ratio=0.0), "in (0, 1]"),
        (Options(ratio=0.01), "cannot hold one request"),
        (Options(window=0), "at least 1 token"),
        (Options(window=5000), "never leave it"),
        (Options(chunk=-1), "0 (unchunked)"),
        (Options(chunk=100), "multiple of the page size"),
        (Options(states=("no-such-state",)), "unknown state"),
    ],
)
def test_impossible_geometry_is_refused_in_one_line(options: Options, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        SCENARIO.run(options, silent)
    assert says in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("found", [None, "0.5.12"])
def test_another_sglang_cannot_run(monkeypatch: pytest.MonkeyPatch, found: str | None) -> None:
    unlike(monkeypatch, found)
    with pytest.raises(CannotRunError, match=r"sglang: wanted .*0\.5\.12\.post1 to 0\.5\.23, found (none|0\.5\.12)"):
        SCENARIO.run(Options(), silent)


@pytest.mark.parametrize(
    "options",
    [
        Options(seed=1, states=("faulty", "patch-e")),
        Options(seed=2, page_size=32, states=("faulty", "patch-e"), ratio=0.15),
        Options(seed=4, page_size=64, chunk=256, states=("faulty", "patch-e")),
        Options(seed=5, window=200, states=("faulty", "patch-e")),
    ],
)
def test_other_geometries_and_seeds_show_the_same(options: Options, tmp_path: Path) -> None:
    outcome = SCENARIO.run(replace(options, dump_dir=tmp_path), silent)
    assert outcome.as_expected, [(r.state, r.path, r.outcome) for r in outcome.readings]
