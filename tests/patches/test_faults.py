"""Bugs that upstream had, put back: each does its damage, its trap and no other names it, and undone all is silent.

Two of them are in the released 0.5.13, and one in 0.5.23: nothing is put back, they are pinned, and a stand-in for the
cure ends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

pytest.importorskip("sglang")

from g4diag.hooks.install import Hook, install
from g4diag.model import View
from g4diag.patches.applying import applied, patches
from g4diag.scenario import Line
from g4diag.scenario.applicable import missing
from g4diag.scenario.measure import judge_all
from g4diag.stack.drive.backends import SMALL
from g4diag.stack.live.selection import traps
from g4diag.stack.releases import current
from repro import free_swa_per_token, table_width_draft_tokens
from tests.patches import fault_drives as drives
from tests.patches.releases import need_available

# These have tests of their own.
ELSEWHERE = {"allocator-rule", "clamp", "faulty-rule", "fused-write-full-index", "fa-spec-full-table"}
GRAPH_INDICES = "graph-indices-lack-topk"


@dataclass(frozen=True)
class Case:
    """drive: does the damage and counts it. trap: who names it. cure: hooks that end what a release has that has these
    lines."""

    name: str
    drive: Callable[[], int]
    trap: str
    cure: Callable[[], tuple[Hook, ...]] = tuple
    lines: tuple[Line, ...] = ()


FAULTS = (
    Case("allocator-bound-off-by-one", drives.exhausted_pool, "slot_inside_allocator"),
    Case("bigram-key-loses-frontier", drives.insert_of_bigrams, "page_in_window_is_mapped"),
    Case("deferred-free-reads-new-mapping", drives.recovery_in_a_free_group, "mapping_follows_allocation"),
    Case("draft-pool-before-swa-adjustment", drives.draft_beside_a_full_pool, "page_table_stays_in_pool"),
    Case("eviction-reaches-insert-boundary", drives.insert_at_the_boundary, "page_in_window_is_mapped"),
    Case("overallocated-tail-freed-twice", drives.finish_with_slots_ahead, "free_of_live_only"),
    Case("tail-alloc-keeps-stale-mapping", drives.recycled_tail_allocation, "mapping_follows_allocation"),
)


ALIVE = (
    Case(
        "#27779: SWA free unmaps a token, frees a page",
        drives.free_of_part_of_a_page,
        "free_of_live_only",
        lambda: (Hook(current().path("swa.free_swa"), "around", free_swa_per_token.clearing_whole_pages),),
        free_swa_per_token.SCENARIO.drives[1].lines,
    ),
    Case(
        "#35985: graph table width ignores draft tokens",
        drives.verify_near_the_context_wall,
        "table_is_wide_enough",
        table_width_draft_tokens.cure,
    ),
)

each_fault = pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
each_alive = pytest.mark.parametrize("case", ALIVE, ids=lambda case: case.name.split(":")[0])


@pytest.fixture(scope="module")
def views() -> Iterator[list[View]]:
    """Hooked once for all of them: that costs more than a drive."""
    with drives.watching() as seen:
        yield seen


def driven(case: Case, views: list[View]) -> tuple[int, set[str]]:
    """(damage, traps that fired), of views among which the case's trap had some to judge."""
    views.clear()
    damage = case.drive()
    assert [view for view in views if isinstance(view, traps()[case.trap].judges)], f"{case.trap} judged nothing"
    return damage, {violation.trap for view in views for violation in judge_all(view)}


@each_fault
def test_put_back_its_trap_names_it_and_undone_all_is_silent(case: Case, views: list[View]) -> None:
    need_available(case.name)
    with applied([case.name]) as manifest:
        damage, fired = driven(case, views)
    assert damage > 0 and fired == {case.trap} and manifest["faults"] == [case.name]
    assert driven(case, views) == (0, set())


@each_alive
def test_a_released_bug_is_named_by_its_trap_and_ended_by_its_cure(case: Case, views: list[View]) -> None:
    need_alive(case)
    damage, fired = driven(case, views)
    assert damage > 0 and fired == {case.trap}
    with install("test", case.cure()):
        assert driven(case, views) == (0, set())


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="alive where these lines are")
@each_alive
def test_the_release_is_sound(case: Case) -> None:
    """Passes, and so fails here, with the first release that has these lines and the cure."""
    need_alive(case)
    assert case.drive() == 0


def need_alive(case: Case) -> None:
    """Skip where the release has it no more."""
    if gone := missing(case.lines):
        pytest.skip(f"{case.name}: cured here: {gone}")


def test_upstream_asserts_the_room_that_topk_branches_need(views: list[View]) -> None:
    need_available(GRAPH_INDICES)
    with applied([GRAPH_INDICES]), pytest.raises(AssertionError, match=r"draft kv_indices row .* used \d+ > capacity"):
        drives.draft_graph_of_a_tree()
    assert drives.draft_graph_of_a_tree() > SMALL.context, "more than one branch's worth"


def test_every_fault_is_driven_and_none_is_a_cure() -> None:
    faults = {name for name, patch in patches().items() if patch.kind == "fault"}
    assert faults == {case.name for case in FAULTS} | {GRAPH_INDICES} | ELSEWHERE
