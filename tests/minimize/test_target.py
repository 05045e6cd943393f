"""What is made smaller, told from a scenario's name or from what a dump says of itself; runs made up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("sglang")

from g4diag.errors import CannotRunError, VacuousError
from g4diag.minimize.case import Runner, scenarios
from g4diag.minimize.target import of_dump, of_scenario
from g4diag.model import Finding, Grade, Inspection, Outcome
from g4diag.model.reduction import Case, Sizes
from g4diag.scenario import State

SIGNATURE = "g4d1:page_table_stays_in_pool:swa-page:swa:trtllm_mha:draft_decode"
DRIVEN = next(name for name, scenario in scenarios().items() if scenario.drives)


def runs(breaks: Callable[[State, Sizes], bool], signature: str = SIGNATURE) -> Runner:
    def run(state: State, sizes: Sizes, seed: int, until: str) -> Case:
        return Case(signature if breaks(state, sizes) else "", "", (), None, checked=1, divergent=1)

    return run


def dump(context: dict[str, object] | None = None, faults: tuple[str, ...] = (), page_size: int = 64) -> Inspection:
    rows = [
        ("signature", {"signature": SIGNATURE}),
        ("provenance", {"context": context or {}}),
        ("provenance", {"faults": list(faults)}),
        ("pools", {"name": "full", "page_size": page_size, "num_pages": 3126}),
        ("pools", {"name": "swa", "page_size": page_size, "num_pages": 469}),
        ("layer_map", {"layers": [{"window_left": -1}, {"window_left": 200}]}),
    ]
    findings = tuple(Finding(subject, "", Grade.MEASURED, data=data) for subject, data in rows)
    return Inspection("it.pt", "g4diag", Outcome.ERROR, findings)


def test_the_first_state_that_a_trap_names_and_its_healthy_one_on_the_same_draft() -> None:
    target = of_scenario("hybrid-wrapper", None, 3, runs(lambda state, sizes: state.name == "in-range"))
    assert (target.state, target.healthy, target.seed, target.faults) == ("in-range", "cure-in-range", 3, ())
    twin = of_scenario("trtllm-mha-swa", "twin-allocator", 0, runs(lambda state, sizes: True))
    assert (twin.healthy, twin.faults) == ("twin-upstream", ("allocator-rule",))


def test_where_no_trap_fires_there_is_nothing_to_keep() -> None:
    with pytest.raises(VacuousError, match=r"no signature to keep; tried upstream \(silent\), in-range \(silent\)"):
        of_scenario("hybrid-wrapper", None, 0, runs(lambda state, sizes: False))
    with pytest.raises(CannotRunError, match="drives single classes"):
        of_scenario(DRIVEN, None, 0, runs(lambda state, sizes: True))


def test_a_dump_is_taken_at_its_word() -> None:
    context = {"scenario": "trtllm-mha-swa", "state": "clamp", "seed": 5}
    target = of_dump(dump(context), runs(lambda state, sizes: True))
    assert (target.state, target.healthy, target.seed, target.source) == ("clamp", "upstream", 5, "the dump")
    assert (target.sizes["page_size"], target.sizes["window"], target.sizes["ratio"]) == (64, 200, 0.15)
    with pytest.raises(VacuousError, match=r"no state on the CPU .* tried trtllm-mha-swa: clamp"):
        of_dump(dump(context), runs(lambda state, sizes: state.name == "faulty"))
    with pytest.raises(CannotRunError, match="drives single classes"):
        of_dump(dump({"scenario": DRIVEN}), runs(lambda state, sizes: True))


def test_for_a_live_servers_dump_states_with_its_faults_come_first() -> None:
    every = runs(lambda state, sizes: True)
    assert of_dump(dump(faults=("allocator-rule",)), every).state in ("allocator", "twin-allocator")
    assert of_dump(dump(faults=("clamp", "faulty-rule")), every).state == "clamp"
    with pytest.raises(VacuousError, match=r"tried .*hybrid-wrapper: .*; trtllm-mha-swa: "):
        of_dump(dump(), runs(lambda state, sizes: True, "g4d1:other:-:-:-:-"))


def test_where_its_own_sizes_do_not_show_it_the_scenarios_may() -> None:
    target = of_dump(dump(faults=("faulty-rule",)), runs(lambda state, sizes: sizes["page_size"] == 16))
    assert (target.state, target.source, target.sizes["window"]) == ("faulty", "the scenario", 128)
    odd = of_dump(dump(faults=("faulty-rule",), page_size=1), runs(lambda state, sizes: True))
    assert (odd.source, odd.sizes["page_size"]) == ("the scenario", 16)


def test_a_file_without_a_violation_has_no_signature() -> None:
    with pytest.raises(VacuousError, match=r"it\.pt: no violation in it"):
        of_dump(Inspection("it.pt", "g4diag", Outcome.HEALTHY, ()), runs(lambda state, sizes: True))
