"""The mechanism on a synthetic machine: it finds, shrinks, names, repeats itself, and owns up to a vacuous run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis.database import DirectoryBasedExampleDatabase

pytest.importorskip("sglang")

from g4diag.dump.reader import read_dump
from g4diag.errors import UsageError
from g4diag.fuzz.contract import Machine
from g4diag.fuzz.runner import ROUND, Budget, run
from g4diag.fuzz.session import Broken, ProbeFailed, current, opened
from g4diag.hooks.install import Hook
from g4diag.model import Allocation, FreeList
from tests.fuzz.toy import POOL, Aiming, Choosy, Once, hows, toy

FEW = Budget(examples=30)


@pytest.mark.parametrize(("how", "claim"), hows())
def test_a_broken_claim_is_found_named_and_shrunk(how: str, claim: str, tmp_path: Path) -> None:
    machine = toy(limit=3, how=how)
    found = run(machine, FEW, dump_dir=tmp_path)
    assert found.exit_code == 1 and found.failure is not None
    assert found.failure.claim == claim
    steps = list(found.failure.program)
    assert steps[:4] == ["state.start()", *["state.add(by=1)"] * 3]
    assert steps[4:] == ([] if how == "call" else ["state.holds()"])
    assert 3 <= found.failure.found_after <= found.steps <= 30 * 20


def test_enough_ends_a_run_at_a_round_with_every_goal_reached_and_no_other() -> None:
    done, goes_on = (replace(toy(), goals=goals) for goals in (toy().goals, (*toy().goals, "never")))
    budget = Budget(examples=3 * ROUND, enough=1)
    first, whole, missed = run(done, budget), run(done, Budget(examples=3 * ROUND)), run(goes_on, budget)
    assert not first.missing and first.examples < whole.examples == missed.examples
    assert missed.missing == ("never",)
    assert run(done, Budget(examples=ROUND)).steps == first.steps, "the same examples as a shorter run's"


@pytest.mark.parametrize(("how", "claim"), hows())
def test_the_program_replays_without_hypothesis(how: str, claim: str, tmp_path: Path) -> None:
    machine = toy(limit=3, how=how)
    failure = run(machine, FEW, dump_dir=tmp_path).failure
    assert failure is not None
    with opened(machine), pytest.raises(Broken, match=f"^{claim}: "):
        exec("\n".join(failure.program), {"state": machine.drives()})


def test_a_failure_that_does_not_come_again_keeps_its_claim_and_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Once, "broke", False)
    found = run(toy(base=Once), FEW, dump_dir=tmp_path)
    failure = found.failure
    assert failure is not None and found.exit_code == 1 and not failure.repeats
    assert (failure.claim, failure.text) == ("model:stays_small", "too many")
    steps = failure.program
    assert steps[0] == "state.start()" and steps[-1] == "state.holds()"
    assert sum("by=1" in step for step in steps) == 3, "a rule that a rule calls is not a step of its own"
    assert failure.dump is not None and failure.test is not None
    incident = read_dump(failure.dump)
    assert "broken once, and not when the same steps were run again" in incident.notes[0][1]
    assert incident.pools == (POOL,), "the state it broke in, not that of the run in which it held"
    assert (
        "not shrunk" in failure.test.read_text() and "something beside the steps decides it" in failure.test.read_text()
    )
    monkeypatch.setattr(Once, "broke", False)
    with opened(toy(base=Once)), pytest.raises(Broken, match="too many"):
        exec("\n".join(steps), {"state": Once()})


@pytest.mark.parametrize(("how", "claim"), hows())
def test_what_rules_wrote_down_breaks_as_what_hypothesis_prints(how: str, claim: str) -> None:
    machine = toy(limit=1, how=how)
    with opened(machine) as session, pytest.raises(Broken):
        state = machine.drives()
        state.start()
        state.holds()
        state.add(by=1)
        state.holds()
    assert session.first is not None and session.first.claim == claim
    assert session.first.program == ("state.start()", "state.add(by=1)", *([] if how == "call" else ["state.holds()"]))


def test_the_dump_holds_the_views_and_says_what_broke(tmp_path: Path) -> None:
    failure = run(toy(limit=3, how="trap"), FEW, dump_dir=tmp_path).failure
    assert failure is not None and failure.dump is not None and failure.dump.parent == tmp_path
    incident = read_dump(failure.dump)
    assert [violation.trap for violation in incident.violations] == ["slot_inside_allocator"]
    assert incident.allocations[-1].slots_N.tolist() == [99]
    assert incident.context["program"] == list(failure.program)
    assert incident.manifest["traps"] == ["slot_inside_allocator"]


def test_of_two_violations_of_one_step_the_bound_leads() -> None:
    """As in a report: an id past the end before one that is live, whichever trap spoke first."""
    machine = replace(toy(), oracle=("free_list_is_free", "slot_inside_allocator"))
    listed = replace(POOL, free_pages_N=np.array([1], dtype=np.int64))
    with opened(machine) as session:
        session.judge(FreeList(listed, live_pages_N=np.array([1], dtype=np.int64)))
        session.judge(Allocation("alloc", POOL, np.array([99], dtype=np.int64)))
        with pytest.raises(Broken, match=r"^slot_inside_allocator: "):
            session.conclude()


def test_a_goal_never_reached_is_vacuous_and_named() -> None:
    found = run(toy(goals=("added", "flown")), FEW)
    assert (found.exit_code, found.missing, found.failure) == (4, ("flown",), None)


def test_a_trap_that_judged_nothing_is_vacuous() -> None:
    found = run(replace(toy(), oracle=("slot_inside_allocator", "free_list_is_free")), FEW)
    assert (found.exit_code, found.missing) == (4, ("judged by free_list_is_free",))


def test_the_same_seed_is_the_same_run() -> None:
    runs = [run(toy(), FEW, seed=seed) for seed in (1, 1, 2)]
    counters = [(found.examples, found.steps, found.coverage) for found in runs]
    assert counters[0] == counters[1] != counters[2]
    assert all(found.exit_code == 0 for found in runs)


def test_an_empty_database_changes_nothing_of_a_run(tmp_path: Path) -> None:
    """With one Hypothesis would run what aims high again and again, to make it smaller."""
    budget, database = Budget(examples=200), DirectoryBasedExampleDatabase(tmp_path)
    without, with_one = run(toy(base=Aiming), budget), run(toy(base=Aiming), budget, database=database)
    assert (with_one.steps, with_one.coverage) == (without.steps, without.coverage)
    assert with_one.broken_off == without.broken_off and not list(tmp_path.rglob("*"))


def test_as_many_examples_as_asked_for_run_to_their_end_and_those_broken_off_are_counted_apart() -> None:
    found = run(toy(base=Choosy), FEW)
    assert found.examples == 30 and found.broken_off > 10 and not found.missing
    assert found.ran == f"30 examples and {found.broken_off} that Hypothesis broke off"
    assert replace(found, broken_off=0).ran == "30 examples"


def test_a_budget_of_time_is_kept() -> None:
    assert run(toy(), Budget(seconds=0.5)).seconds < 5


def test_an_error_of_ours_is_not_taken_for_sglangs() -> None:
    """The probe raises inside sglang's call, where it would be swallowed in a server."""
    target = "sglang.srt.mem_cache.allocator.token.TokenToKVPoolAllocator.__init__"

    def broken_probe(*args: object) -> None:
        raise ValueError("ours")

    machine: Machine = replace(toy(), probes=lambda sink, books: [Hook(target, "after", broken_probe, observes=True)])
    with opened(machine), pytest.raises(ProbeFailed, match="ValueError: ours"):
        from sglang.srt.mem_cache.allocator.token import TokenToKVPoolAllocator

        machine.drives().call(TokenToKVPoolAllocator, 4, None, "cpu", None, False)


def test_a_machine_without_a_session_is_refused() -> None:
    with pytest.raises(UsageError, match="found none"):
        current()
