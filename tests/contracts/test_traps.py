"""Every file in traps/ keeps the trap contract; a newcomer is picked up by being there."""

from __future__ import annotations

import re
import typing

import pytest

from g4diag import model
from g4diag.discover import Contribution, contributions
from g4diag.traps.contract import Trap

TRAPS = contributions("g4diag.traps", "TRAP")
each_trap = pytest.mark.parametrize("found", TRAPS, ids=lambda found: found.name)


def test_traps_are_found() -> None:
    assert {found.name for found in TRAPS} >= {"page_table_stays_in_pool", "slot_inside_allocator"}


@each_trap
def test_name_is_the_modules(found: Contribution) -> None:
    assert found.error is None
    assert isinstance(found.value, Trap)
    assert found.value.name == found.name


@each_trap
def test_claim_is_a_sentence(found: Contribution) -> None:
    for sentence in (found.value.claim, found.value.without_it, found.value.cost):
        assert len(sentence.split()) >= 4 and sentence[0].isupper() and sentence.endswith("."), sentence


@each_trap
def test_runs_are_known(found: Contribution) -> None:
    assert found.value.runs and set(found.value.runs) <= {"eager", "captured", "offline"}
    assert len(set(found.value.runs)) == len(found.value.runs)
    assert "offline" in found.value.runs, "a dump must be judgeable by it"


@each_trap
def test_it_judges_a_view(found: Contribution) -> None:
    assert found.value.judges in typing.get_args(model.View)
    assert callable(found.value.judge)


@each_trap
def test_a_group_is_a_short_name_of_its_own(found: Contribution) -> None:
    assert re.fullmatch(r"|[a-z]+(-[a-z]+)*", found.value.group)
    assert found.value.group not in {trap.name for trap in TRAPS}


def test_the_groups_of_the_issue_exist() -> None:
    assert {found.value.group for found in TRAPS} >= {"page-table", "allocator", "swa-state"}
