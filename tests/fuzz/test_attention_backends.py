"""The machine over every backend that a CPU can build: it names what is known to be wrong, and a replay that fills
nothing; the same steps are silent without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.fuzz.machines import attention_backends
from g4diag.fuzz.machines.attention_backends import MACHINE
from g4diag.fuzz.replay import replaying
from g4diag.fuzz.session import Broken
from g4diag.patches.applying import applied
from g4diag.stack.drive import forwards
from g4diag.stack.drive.attention_backends import drivable, has_graphs, verifies_trees
from tests.fuzz.test_backend import START
from tests.patches.releases import need_available

CURES = {"fa4": "frozen-draft-fa-swa-state", "intel_amx": "frozen-draft-amx-swa-state"}
ALIVE = [name for name in CURES if name in drivable()]


@contextmanager
def served(attention: str, topk: int = 1, faults: tuple[str, ...] = ()) -> Iterator[Any]:
    with replaying(MACHINE.name, faults) as state:
        state.start(**START | {"attention": attention, "topk": topk})
        state.admit(lengths=[30])
        yield state


def drafted(attention: str) -> None:
    with served(attention) as state:
        state.draft(picked=[2], graph=False)


@pytest.mark.skipif(not ALIVE, reason="this release lets none of them be built on a CPU")
@pytest.mark.parametrize("attention", ALIVE)
def test_a_frozen_draft_where_the_own_pool_decides_is_named_and_cured(
    attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_backends, "_OWN_POOL_DECIDES", ())
    with pytest.raises(Broken, match=r"^page_table_"):
        drafted(attention)
    with applied((CURES[attention],)):
        drafted(attention)


@pytest.mark.parametrize("attention", [name for name in drivable() if has_graphs(name)])
def test_a_replay_that_fills_nothing_is_named(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stepped() -> None:
        with served(attention) as state:
            state.decode(picked=[2], padding=1)
            state.decode(picked=[2], padding=1)

    stepped()
    monkeypatch.setattr(forwards, "plan_replay", lambda backend, batch: None)
    with pytest.raises(Broken, match=r"^(table_is_of_this_step|page_table_)"):
        stepped()


TREES = [name for name in drivable() if verifies_trees(name)]


def verified(attention: str, padding: int | None, *faults: str) -> None:
    """Verifies of trees, of whose slots some move to the front and are others' later, as the window moves on."""
    with served(attention, topk=2, faults=faults) as state:
        state.admit(lengths=[9])
        for accepted in (2, 3, 1):
            state.verify(picked=state.live(), accepted=accepted, padding=padding)
            state.slide()
        assert state.reached["path_moved"] and state.page_size == 1


@pytest.mark.parametrize("padding", [None, 1])
@pytest.mark.parametrize("attention", TREES)
def test_a_verify_of_trees_is_silent(attention: str, padding: int | None) -> None:
    verified(attention, padding)


@pytest.mark.skipif("fa4" not in TREES, reason="this release lets no fa4 be built on a CPU")
def test_full_slots_in_the_tables_of_a_tree_are_named() -> None:
    need_available("fa-spec-full-table")
    with pytest.raises(Broken, match=r"^page_table_"):
        verified("fa4", None, "fa-spec-full-table")


@pytest.mark.parametrize("attention", TREES)
def test_a_replay_over_a_tree_that_fills_nothing_is_named(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwards, "plan_replay", lambda backend, batch: None)
    with pytest.raises(Broken, match=r"^(table_is_of_this_step|page_table_)"):
        verified(attention, 1)


@pytest.mark.parametrize("attention", TREES)
def test_a_graph_that_is_captured_after_another_was_replayed_is_silent(attention: str) -> None:
    """Graphs of several sizes share buffers: what the second is captured over is the first one's."""
    with served(attention, topk=2) as state:
        state.admit(lengths=[1])
        for padding in (2, 0):
            state.verify(picked=state.live(), accepted=1, padding=padding)
        assert state.reached[f"{attention}_tree"] == 2
