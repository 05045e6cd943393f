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
from g4diag.stack.drive.attention_backends import drivable, has_graphs
from tests.fuzz.test_backend import START

CURES = {"fa4": "frozen-draft-fa-swa-state", "intel_amx": "frozen-draft-amx-swa-state"}
ALIVE = [name for name in CURES if name in drivable()]


@contextmanager
def served(attention: str) -> Iterator[Any]:
    with replaying(MACHINE.name) as state:
        state.start(**START | {"attention": attention})
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
