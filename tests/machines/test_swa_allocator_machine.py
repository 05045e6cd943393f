"""The real SWA allocator agrees with the set model, and the machine would notice if it did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

pytest.importorskip("sglang")

from g4diag.model import View
from g4diag.stack.hooks import install
from g4diag.stack.probes.allocation import VIEWS, AllocationProbe
from repro.measure import judge_all
from tests.machines.swa_allocator import GOALS, SwaAllocatorMachine, build, free_pages, int64

LONG = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
HUNT = settings(
    LONG,
    max_examples=50,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    report_multiple_bugs=False,
)


def machine(page_size: int, coverage: Counter[str], sabotage: Callable[..., None] | None = None) -> type[Any]:
    attributes = {"page_size": page_size, "coverage": coverage, "sabotage": sabotage}
    return type(f"SwaAllocatorMachine{page_size}", (SwaAllocatorMachine,), attributes)


@pytest.mark.parametrize("page_size", [4, 16, 64])
def test_allocator_agrees_with_the_model(page_size: int) -> None:
    """... and so do the allocator traps; and the run was not vacuous: it diverged, recycled, slid windows and ran
    out, in both pools."""
    coverage: Counter[str] = Counter()
    judged: Counter[str] = Counter()

    def judge(view: View) -> None:
        judged[type(view).__name__] += 1
        for violation in judge_all(view):
            raise AssertionError(f"{violation.trap}: {violation.summary}")

    with install("test", AllocationProbe(judge, stock_every=8).hooks()):
        run_state_machine_as_test(machine(page_size, coverage), settings=LONG)
    assert set(judged) == {view.__name__ for view in VIEWS}
    assert not [goal for goal in GOALS if not coverage[goal]], dict(coverage)


def keeps_mapping_on_free_swa(allocator: Any) -> None:
    def free_swa(index: Any) -> None:
        swa = allocator.full_to_swa_index_mapping[index]
        allocator.swa_attn_allocator.free(swa[swa > 0])

    allocator.free_swa = free_swa


def clears_first_slot_only(allocator: Any) -> None:
    """Near sglang #27779: pages are freed, the mapping is cleared a token."""

    def free_swa(index: Any) -> None:
        swa = allocator.full_to_swa_index_mapping[index]
        allocator.swa_attn_allocator.free(swa[swa > 0])
        allocator.full_to_swa_index_mapping[index[:: allocator.page_size]] = 0

    allocator.free_swa = free_swa


def shifts_extend_by_a_page(allocator: Any) -> None:
    _alter_extend(allocator, lambda handed: handed + allocator.page_size)


def hands_out_swa_pages_past_the_pool(allocator: Any) -> None:
    _alter_extend(allocator.swa_attn_allocator, lambda handed: handed + allocator.size_swa)


def hands_out_the_dummy_page(allocator: Any) -> None:
    _alter_extend(allocator.swa_attn_allocator, lambda handed: handed % allocator.page_size)


def starts_with_a_page_past_the_pool(allocator: Any) -> None:
    """The bound off by one."""
    allocator.full_attn_allocator.free_pages[-1] += 1


def forgets_swa_on_free(allocator: Any) -> None:
    allocator.free = allocator.full_attn_allocator.free


def frees_one_page_only(allocator: Any) -> None:
    honest = allocator.swa_attn_allocator.free
    allocator.swa_attn_allocator.free = lambda index: honest(index[:1])


def _alter_extend(allocator: Any, change: Callable[[Any], Any]) -> None:
    honest = allocator.alloc_extend

    def alloc_extend(*args: Any, **kwargs: Any) -> Any:
        handed = honest(*args, **kwargs)
        return None if handed is None else change(handed)

    allocator.alloc_extend = alloc_extend


NAMED_BY = {
    keeps_mapping_on_free_swa: "mapping",
    clears_first_slot_only: "mapping",
    shifts_extend_by_a_page: "slot_inside_allocator",
    hands_out_swa_pages_past_the_pool: "slot_inside_allocator",
    hands_out_the_dummy_page: "slot_inside_allocator",
    starts_with_a_page_past_the_pool: "owner",
    forgets_swa_on_free: "owner",
    frees_one_page_only: "owner",
}


@pytest.mark.parametrize("sabotage", NAMED_BY, ids=lambda fault: fault.__name__)
def test_machine_finds_an_injected_fault(sabotage: Callable[..., None]) -> None:
    with pytest.raises(AssertionError, match=f"^{NAMED_BY[sabotage]}:"):
        run_state_machine_as_test(machine(16, Counter(), sabotage), settings=HUNT)


@pytest.mark.xfail(
    strict=True, reason="0.5.13: alloc_decode takes from one pool before it learns that the other is out"
)
def test_refused_decode_takes_nothing() -> None:
    """A find in healthy sglang: out of SWA pages, a refused decode keeps the full page it had popped already.
    Unseen in a server, whose scheduler asks first and dies on a refusal. (With an empty free list it is worse: the
    kernel runs before the check and reads the address 0, so the machine never asks for that.)"""
    allocator = build(page_size=4, full_pages=4, swa_pages=3, need_sort=False)
    lens, none = int64([4, 4]), int64([0, 0])
    slots = allocator.alloc_extend(none, none, lens, lens, int64([-1, -1]), 8)
    before = len(free_pages(allocator.full_attn_allocator))
    assert allocator.alloc_decode(lens + 1, lens + 1, slots[[3, 7]]) is None
    assert len(free_pages(allocator.full_attn_allocator)) == before
