"""The mirror bug as a scenario: a draft with a pool of its own has it, one that reads the target's is the twin."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.analyzers import inspect_file
from g4diag.scenario import Options
from repro.eagle_own_pool import SCENARIO
from tests.repro.conftest import silent

KEPT = Path(__file__).parents[2] / "dumps" / "eagle-own-pool-allocator-seed0.pt"


def test_only_the_allocators_rule_is_wrong_it_is_named_and_the_twin_is_not_broken(tmp_path: Path) -> None:
    outcome = SCENARIO.run(Options(requests=3, dump_dir=tmp_path), silent)
    assert [(r.state, r.outcome) for r in outcome.readings if not r.as_expected] == []
    score = outcome.score
    assert (score.found, score.named, score.silent, score.twin) == ((2, 2), (2, 2), (4, 4), (4, 4))
    assert {r.state for r in outcome.readings if r.twin} == {"frozen-upstream", "frozen-allocator"}
    assert outcome.faults == ("allocator-rule", "faulty-rule")
    wrong = [r for r in outcome.readings if r.state == "allocator"]
    assert all(r.relative_error > 0.1 and r.agreement is not None and r.agreement < 1 for r in wrong)


def test_the_kept_dump_is_judged_right() -> None:
    inspection = inspect_file(KEPT)
    assert inspection.outcome.exit_code == 1
    assert inspection.of("verdict")[0].data["trap"] == "page_table_in_layer_space"
    assert inspection.of("known_issues")[0].data["id"] == "eagle-own-pool"
