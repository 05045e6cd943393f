"""Scenarios of drives: each as its file says, each dump judged right, and what the mechanism does with bad ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.analyzers import inspect_file
from g4diag.discover import contributions
from g4diag.dump.reader import read_dump
from g4diag.errors import CannotRunError, TooEarlyError, UsageError, VacuousError
from g4diag.patches.applying import patches
from g4diag.scenario import Drive, DriveOutcome, DriveReading, Found, Options, Scenario, Score
from g4diag.scenario.driving import driven
from g4diag.stack.live.selection import traps
from g4diag.stack.releases import current
from tests.repro.conftest import silent

DUMPS = Path(__file__).parents[2] / "dumps"
DRIVEN = [row.value for row in contributions("repro", "SCENARIO") if row.error is None and row.value.drives]
each = pytest.mark.parametrize("scenario", DRIVEN, ids=lambda scenario: scenario.name)
# By running, on each release that CI has: how each bug stands, and which states do not apply.
_BOTH = "flashinfer-spec-window swa-ratio-starvation table-width-draft-tokens"
ALIVE = {"0.5.13": f"{_BOTH} flashinfer-double-read free-swa-per-token xqa-strided-query", "0.5.23": _BOTH}
NOT_YET = {"0.5.13": "bigram-units deferred-free-remap", "0.5.23": ""}
LEFT_OUT = {"0.5.23": {"free-swa-per-token": ["cure"], "xqa-strided-query": ["cure", "cure-packed"]}}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Scenario], DriveOutcome]:
    """The scenario's outcome; each runs once."""
    folder = tmp_path_factory.mktemp("dumps")

    @cache
    def run(name: str) -> DriveOutcome:
        (scenario,) = [scenario for scenario in DRIVEN if scenario.name == name]
        outcome = scenario.run(Options(dump_dir=folder), silent)
        assert isinstance(outcome, DriveOutcome)
        return outcome

    return lambda scenario: run(scenario.name)


@each
def test_every_state_behaves_as_its_file_says(scenario: Scenario, ran: Callable[[Scenario], DriveOutcome]) -> None:
    outcome = ran(scenario)
    assert [(r.state, r.outcome, r.error) for r in outcome.readings if not r.as_expected] == []
    left_out = [each.state for each in outcome.left_out]
    assert [r.state for r in outcome.readings] == [s.name for s in scenario.drives if s.name not in left_out]
    score = outcome.score
    shown = [reading for reading in outcome.readings if not reading.harmless]
    assert score.found == (len(shown), len(shown)) and score.silent[0] == score.silent[1] > 0
    assert score.twin[0] == score.twin[1] > 0, "the use that must not break"
    put_back = {name for state in scenario.drives if state.name not in left_out for name in state.patches}
    assert set(outcome.faults) == {name for name in put_back if patches()[name].kind == "fault"}


@each
def test_how_each_bug_stands_here_by_running(scenario: Scenario, ran: Callable[[Scenario], DriveOutcome]) -> None:
    outcome, release = ran(scenario), current().name
    assert outcome.cell is not None and outcome.cell.why
    if release in ALIVE:
        alive, early = scenario.name in ALIVE[release].split(), scenario.name in NOT_YET[release].split()
        assert outcome.cell.standing == ("alive" if alive else "not there yet" if early else "cured")
        wanted = LEFT_OUT.get(release, {}).get(scenario.name, [])
        assert [each.state for each in outcome.left_out] == wanted
    assert all("wanted" in each.why and "found" in each.why for each in outcome.left_out)


@each
def test_each_state_that_a_trap_names_leaves_a_small_dump_that_is_judged_so(
    scenario: Scenario, ran: Callable[[Scenario], DriveOutcome]
) -> None:
    outcome = ran(scenario)
    expected = {reading.state: reading.expected.split(" + ") for reading in outcome.readings}
    named = {state: names for state, names in expected.items() if traps().keys() >= set(names)}
    assert outcome.dumps.keys() == named.keys()
    for state, path in outcome.dumps.items():
        inspection = inspect_file(path)
        verdict = inspection.of("verdict")[0]
        assert inspection.outcome.exit_code == 1 and verdict.data["trap"] in named[state]
        assert path.stat().st_size <= 60_000
        incident = read_dump(path)
        told = {key: value for key, value in incident.context.items() if key != "server"}
        assert told == {"scenario": scenario.name, "state": state}
        assert incident.manifest["faults"] == list(outcome.faults)
        kept = DUMPS / path.name
        if current().name == "0.5.13":  # which wrote those that are kept
            assert kept.is_file() and inspect_file(kept).of("verdict")[0].text == verdict.text


SOUND = Found(checked=1, damaged=0)


def made(drive: Callable[..., Found], *states: Drive, **more: Any) -> Scenario:
    """A scenario of no bug."""
    return driven(drive, name="made", symptom="", upstream="", drives=states, **more)


def test_what_a_state_comes_to() -> None:
    """Damage that no trap sees goes by the drive's own word, an exception by its name; silence where a trap should fire
    is not as expected."""
    from g4diag.stack.drive.allocators import PAGE, extend, small_server

    def drive(*, how: str) -> Found:
        if how == "raises":
            raise KeyError("no such slot")
        allocator = small_server().allocator
        allocator.free_swa(extend(allocator, PAGE))
        return Found(checked=3, damaged=how == "damages", called="starves")

    expected = {"raises": "raises KeyError", "damages": "starves", "named": "free_of_live_only"}
    states = [Drive(how, "", expected=said, arguments={"how": how}) for how, said in expected.items()]
    outcome = made(drive, *states).run(Options(), silent)
    assert isinstance(outcome, DriveOutcome)
    assert [reading.outcome for reading in outcome.readings] == ["raises KeyError", "starves", "silent"]
    assert [reading.as_expected for reading in outcome.readings] == [True, True, False]
    assert outcome.score == Score(found=(2, 3), named=(0, 1), silent=(0, 0), twin=(0, 0))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"checked": 0}, "nothing was checked"),
        ({"evidence": {"free inside the group": 0}}, "no free inside the group"),
        ({"judged": 0}, "no view came to the trap"),
        ({"judged": None}, ""),
        ({"checked": 0, "error": "KeyError: 1"}, ""),
    ],
)
def test_a_state_that_exercised_nothing_is_vacuous(changes: dict[str, Any], says: str) -> None:
    sound = DriveReading("upstream", False, 1, 0, judged=1, traps=(), outcome="silent", expected="silent")
    row = replace(sound, **changes)
    outcome = DriveOutcome("made", {}, (), (sound, row))
    assert row.missing == says
    if says:
        with pytest.raises(VacuousError, match=f"made: vacuous at upstream: {says}"):
            outcome.require_substance()
    else:
        outcome.require_substance()


def test_what_cannot_run_here_ends_the_scenario_and_is_no_reading() -> None:
    def drive() -> Found:
        raise CannotRunError("made: wanted a GPU, found none")

    with pytest.raises(CannotRunError, match="wanted a GPU") as cannot:
        made(drive, Drive("upstream", "")).run(Options(), silent)
    assert not isinstance(cannot.value, TooEarlyError)
    early = made(drive, Drive("upstream", ""), since=(("sglang", "no such line"),))
    with pytest.raises(TooEarlyError, match=r"made: not there yet: wanted 'no such line' .* wanted a GPU"):
        early.run(Options(), silent)


def test_sizes_and_states_it_does_not_have_are_refused() -> None:
    scenario = made(lambda: SOUND, Drive("upstream", ""))
    with pytest.raises(UsageError, match="made: its sizes are part of it; found --page-size"):
        scenario.run(Options(page_size=32), silent)
    with pytest.raises(UsageError, match="unknown state of made: wanted one of upstream, found 'nope'"):
        scenario.run(Options(states=("nope",)), silent)
