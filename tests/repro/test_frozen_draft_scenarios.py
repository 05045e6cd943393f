"""Two bugs of frozen-KV drafts, on the real classes: every state, both paths, against the truth. One is alive in 0.5.13
only."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.analyzers import inspect_file
from g4diag.errors import VacuousError
from g4diag.scenario import Options, Outcome, Reading, Scenario
from g4diag.stack.releases import current
from repro.hybrid_wrapper import SCENARIO as HYBRID
from repro.stale_out_cache_loc import SCENARIO as STALE
from tests.repro.conftest import silent

KEPT = Path(__file__).parents[2] / "dumps"
OLD = current().name == "0.5.13"  # which wrote the dumps that are kept


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    directory: Path = tmp_path_factory.mktemp("dumps")
    return {each.name: each.run(Options(dump_dir=directory), silent) for each in (HYBRID, STALE)}


def rows(outcome: Outcome) -> dict[tuple[str, str], Reading]:
    return {(row.state, row.path): row for row in outcome.readings}


@pytest.mark.parametrize("scenario", [HYBRID, STALE], ids=lambda scenario: scenario.name)
def test_every_state_behaves_as_its_file_says(scenario: Scenario, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[scenario.name]
    assert [(r.state, r.path, r.outcome) for r in outcome.readings if not r.as_expected] == []
    assert len(outcome.readings) == 2 * len(scenario.states) and outcome.faults == ()
    assert outcome.left_out == () and outcome.cell is not None
    assert outcome.cell.standing == ("alive" if OLD or scenario is HYBRID else "cured")


def test_the_wrapper_raises_or_reads_past_the_drafts_own_pool(outcomes: dict[str, Outcome]) -> None:
    found = rows(outcomes["hybrid-wrapper"])
    for path in ("eager", "graph"):
        assert found["upstream", path].error == "IndexError: list index out of range"
        past = found["in-range", path]
        assert past.out_of_range > 0 and past.bound == 5, "64 tokens in pages of 16, and the dummy"
        assert "page_table_stays_in_pool" in past.traps
    made = outcomes["hybrid-wrapper"].dump
    assert made is not None and (KEPT / made.name).is_file()
    if not OLD:
        assert "past the last of" in inspect_file(made).of("verdict")[0].text
        return
    ours, kept = (inspect_file(path).of("verdict")[0].text for path in (made, KEPT / made.name))
    assert ours == kept and "50 past the last of 5 " in kept


def test_cures_equal_the_truth_through_the_wrapper(outcomes: dict[str, Outcome]) -> None:
    found = rows(outcomes["hybrid-wrapper"])
    for state in ("cure", "cure-in-range"):
        row = found[state, "eager"]
        assert (row.agreement, row.relative_error, row.out_of_range) == (1.0, 0.0, 0) and row.checked > 0
        assert all(row.evidence.values()) and "hybrid wrapper" in str(row.evidence)
    assert not found["flag", "eager"].evidence, "no wrapper to go through"


def test_the_input_copy_fails_by_length_alone(outcomes: dict[str, Outcome]) -> None:
    found = rows(outcomes["stale-out-cache-loc"])
    if not OLD:
        assert all(row.evidence and all(row.evidence.values()) for row in found.values()), "as much is left behind"
        return
    assert "shape [1] doesn't match the broadcast shape [2]" in found["upstream", "eager"].error
    assert "broadcast shape [220]" in found["alone", "eager"].error, "what the last chunk of the prompt wrote"
    assert found["hidden", "eager"].evidence == found["upstream", "eager"].evidence, "as much left behind, unseen"
    assert all(row.evidence and all(row.evidence.values()) for row in found.values())


def test_a_state_whose_subject_never_came_up_is_vacuous(outcomes: dict[str, Outcome]) -> None:
    from dataclasses import replace

    outcome = outcomes["hybrid-wrapper"]
    row = replace(rows(outcome)["cure", "eager"], evidence={"draft went through a hybrid wrapper": 0})
    with pytest.raises(VacuousError, match="no draft went through a hybrid wrapper"):
        replace(outcome, readings=(row,)).require_substance()


def test_the_switch_is_put_back() -> None:
    import os

    STALE.run(Options(states=("no-copy",)), silent)
    assert "SGLANG_EAGER_INPUT_NO_COPY" not in os.environ
