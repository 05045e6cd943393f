"""Tables of the real backend lead to the right K/V, and the machine would notice if they did not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sglang")

import torch

from g4diag.fuzz.backend_steps import Reading, Step, token_ids
from g4diag.fuzz.machines.backend_metadata import MACHINE, BackendMachine
from g4diag.fuzz.replay import replaying
from g4diag.fuzz.session import Broken, opened
from tests.patches.releases import need_available

PAGE = 4
START: dict[str, Any] = {
    "page_size": 16,
    "pages": (8, 3),
    "window": 1,
    "context_pages": 4,
    "short_of": 0,
    "drafts": 4,
    "others": 5,
    "wrapped": False,
    "verify_in": "prefill",
}


class UnboundedMachine(BackendMachine):
    """Requests as long as the scheduler admits them."""

    bounded = False


@pytest.mark.parametrize(
    ("fault", "others", "claim"),
    [
        ("faulty-rule", 2, "page_table_in_layer_space"),
        ("faulty-rule", 5, "page_table_stays_in_pool"),
        ("allocator-rule", 2, "page_table_in_layer_space"),
        ("draft-pool-before-swa-adjustment", 5, "page_table_stays_in_pool"),
    ],
)
def test_a_fault_is_named_by_its_trap(fault: str, others: int, claim: str) -> None:
    """others: one more than the pages by which full ids are ahead of SWA ids."""
    need_available(fault)
    with pytest.raises(Broken, match=f"^{claim}: "), replaying(MACHINE.name, [fault]) as state:
        _both_drafts(state, others)


def test_without_a_fault_the_same_steps_are_silent() -> None:
    for others in (2, 5):
        with replaying(MACHINE.name) as state:
            _both_drafts(state, others)


def _both_drafts(state: BackendMachine, others: int = 5) -> None:
    state.start(**START | {"others": others})
    state.admit(lengths=[1])
    state.draft(picked=[2], graph=False)
    state.draft_of_its_own(picked=[2], accepted=1, padding=None)


def test_a_clamp_hides_nothing_from_the_machine() -> None:
    with pytest.raises(Broken, match=r"^page_table_in_layer_space: "):  # noqa: SIM117
        with replaying(MACHINE.name, ["faulty-rule", "clamp"]) as state:
            _both_drafts(state)


def test_without_its_bound_it_finds_the_narrow_graph_tables() -> None:
    """A find in healthy sglang, as #35985: tables replayed for a verify ignore the draft tokens at the context's end,
    in 0.5.13 and 0.5.23. tests/patches pins it, and its cure."""
    unbounded = replace(MACHINE, drives=UnboundedMachine)
    with pytest.raises(Broken, match=r"^table_is_wide_enough: "), opened(unbounded):
        _verify_the_longest(UnboundedMachine())
    with opened(MACHINE):
        _verify_the_longest(BackendMachine())


def _verify_the_longest(state: BackendMachine) -> None:
    state.start(**START | {"context_pages": 1, "others": 0})
    state.admit(lengths=[16])
    state.verify(picked=[1], accepted=1, padding=0)
    assert state.reached["longest_replayed"]


def test_a_draft_that_writes_is_noticed() -> None:
    with opened(MACHINE):
        state: Any = BackendMachine()
        state.start(**START)
        state.admit(lengths=[1])
        state._frozen = worker = state.rig.frozen()
        drafts = worker.draft_forward

        def and_writes(batch: Any) -> Any:
            state.rig.pool.swa_kv_pool.k_buffer[0][0] += 1
            return drafts(batch)

        worker.draft_forward = and_writes
        with pytest.raises(Broken, match=r"^model:draft_writes_nothing: "):
            state.draft(picked=[2], graph=False)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"seq_lens": [9, 1]}, "row 0: 9 keys, wanted 10"),
        ({"block_tables": [[1, 3, 2], [0, 0, 0]]}, "row 0: position 5 of 10 reads page 3, where another"),
        ({"block_tables": [[1, 2], [0, 0]]}, "row 0: 10 keys in a table of 2 columns"),
        ({"block_tables": [[1, 2, 9], [0, 0, 0]]}, "row 0: pages 2 to 9 of a pool of 4"),
        ({"block_tables": [[1, 2, 3], [1, 0, 0]]}, "padding row 1 of 1 keys reads pages [1]"),
        ({"block_tables": [[9, 2, 3], [0, 9, 9]]}, None),
    ],
)
def test_a_wrong_read_is_told(change: dict[str, Any], says: str | None) -> None:
    """Ten tokens on pages 1 to 3, four of them in the window, and a row of padding. Left of the window, and past the
    last key, a table may hold anything."""
    reading = Reading(Step("DECODE", (7,), (9,), (1,), (10,), (10,)), PAGE)
    keys = torch.zeros(4, PAGE)
    keys.view(-1)[PAGE : PAGE + 10] = torch.from_numpy(token_ids(7, 0, 10).astype(np.float32))
    handed = {"block_tables": [[1, 2, 3], [0, 0, 0]], "seq_lens": [10, 1]} | change
    tensors = {name: torch.tensor(value, dtype=torch.int32) for name, value in handed.items()}
    reading.kernel({"kv_cache": (keys[:, None, :, None],), "window_left": 4, **tensors})
    assert reading.calls == 1
    assert len(reading.wrong) == (says is not None) and all(says in wrong for wrong in reading.wrong if says)
