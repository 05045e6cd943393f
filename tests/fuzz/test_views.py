"""The real frozen-KV views put back what they took, and the machine would notice if they did not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.fuzz.backend_steps import reading_kernels
from g4diag.fuzz.machines.frozen_kv_views import MACHINE, FrozenKVViewsMachine
from g4diag.fuzz.replay import replaying
from g4diag.fuzz.runner import Budget, run
from g4diag.fuzz.session import Broken, opened
from g4diag.hooks.install import Hook, install
from g4diag.stack.releases import current

UNCURED = replace(MACHINE, surroundings=reading_kernels)


def test_views_are_left_as_they_were_entered() -> None:
    """... whatever is nested in what and raises where; every goal was met."""
    found = run(MACHINE, Budget(examples=30), seed=1)
    assert found.failure is None
    assert not found.missing, found.coverage


def test_without_the_cure_a_wrapper_is_found_to_be_out_of_reach() -> None:
    """A find in healthy sglang: a view swaps the wrapper's pool, and the child that reads keeps the draft's own."""
    with pytest.raises(Broken, match=r"^swa_state_follows_pool: .* where target:SWAKVPool is to be read"):  # noqa: SIM117
        with opened(UNCURED):
            _enter(FrozenKVViewsMachine(), "wrapped")
    with opened(MACHINE):
        _enter(FrozenKVViewsMachine(), "wrapped")


@pytest.mark.parametrize("fault", ["faulty-rule", "allocator-rule"])
def test_a_fault_is_named_and_gone_without_it(fault: str) -> None:
    with pytest.raises(Broken, match=r"^swa_state_follows_pool: "), replaying(MACHINE.name, [fault]) as state:
        state.start(page_size=16, context=32)
        state.bind_twin()
        _enter(state, "plain")


def test_a_view_that_forgets_to_restore_is_noticed() -> None:
    @contextmanager
    def forgetful(original: Any, batch: Any, kv_context: Any, backend: Any) -> Iterator[Any]:
        with original(batch, kv_context, backend) as value:
            inside = backend.token_to_kv_pool
            yield value
        backend.token_to_kv_pool = inside

    hook = Hook(current().path("view.target_kv_pool_view"), "around", forgetful)
    with opened(MACHINE), install("test", [hook]):
        state = FrozenKVViewsMachine()
        _enter(state, "plain", view="target_kv_pool_view")
        with pytest.raises(Broken, match=r"^swa_state_follows_pool: .* \(exit\)"):
            state.leave(fails=False)


def _enter(state: Any, kind: str, view: str = "frozen_kv_target_view") -> None:
    if not hasattr(state, "rig"):
        state.start(page_size=16, context=32)
    state.bind(kind=kind)
    state.enter(draft=0, view=view)
    state.holds()
