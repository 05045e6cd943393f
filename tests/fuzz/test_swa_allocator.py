"""What the allocator machine writes of a find runs by itself; and what healthy sglang gets wrong is pinned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.fuzz.machines.swa_allocator import MACHINE
from g4diag.fuzz.program import as_test
from g4diag.fuzz.runner import Budget, run
from g4diag.fuzz.session import Broken
from g4diag.hooks.install import Hook, install
from g4diag.stack.drive.swa_pool import build, free_pages, int64
from tests.rediscovery.sabotage import OWNER, clears_first_slot_only


def test_a_fault_is_found_named_and_replayed_by_its_test_file(tmp_path: Path) -> None:
    with install("test", [Hook(f"{OWNER}.free_swa", "around", clears_first_slot_only)]):
        failure = run(MACHINE, Budget(examples=60, shrinking=200), seed=0, dump_dir=tmp_path).failure
        assert failure is not None and failure.claim == "mapping_follows_allocation"
        assert failure.length <= 4
        program: dict[str, Any] = {"__name__": "replayed"}
        exec(as_test(MACHINE.name, (), failure), program)
        with pytest.raises(Broken, match=r"^mapping_follows_allocation: "):
            program["test_replay"]()
    program["test_replay"]()


@pytest.mark.xfail(
    strict=True, reason="0.5.13 to 0.5.23: alloc_decode takes from one pool before it learns that the other is out"
)
def test_refused_decode_takes_nothing() -> None:
    """A find in healthy sglang: out of SWA pages, a refused decode keeps the full page it had popped already.
    Unseen in a server, whose scheduler asks first and dies on a refusal. (With an empty free list it is worse in
    0.5.13: the kernel runs before the check and reads the address 0, so the machine never asks for that.)"""
    allocator = build(page_size=4, full_pages=4, swa_pages=3, need_sort=False)
    lens, none = int64([4, 4]), int64([0, 0])
    slots = allocator.alloc_extend(none, none, lens, lens, int64([-1, -1]), 8)
    before = len(free_pages(allocator.full_attn_allocator))
    assert allocator.alloc_decode(lens + 1, lens + 1, slots[[3, 7]]) is None
    assert len(free_pages(allocator.full_attn_allocator)) == before
