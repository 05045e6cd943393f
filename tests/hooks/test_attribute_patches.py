"""A stand-in takes an attribute's place everywhere, and leaves the very object behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from g4diag.errors import PatchRefused
from g4diag.hooks.attribute_patches import Swap, swap
from tests.synthetic import BASE, differences, raw_snapshot, tree

KERNEL = f"{BASE}.kernel"


class StandIn:
    """Knows what it stands for."""

    def __init__(self, original: Any) -> None:
        self.original = original


@pytest.fixture
def modules() -> Iterator[tuple[Any, Any]]:
    with tree() as (base, user):
        user.launcher = base.kernel
        yield base, user


def test_every_alias_is_swapped_and_the_very_object_returns(modules: tuple[Any, Any]) -> None:
    base, user = modules
    before, kernel = raw_snapshot(base, user), base.kernel
    with swap("test", [Swap(KERNEL, StandIn)]) as swapped:
        assert isinstance(base.kernel, StandIn) and user.launcher is base.kernel and base.kernel.original is kernel
        assert swapped.targets == (KERNEL,) and not swapped.problems()
        user.later = base.kernel
    assert user.later is kernel
    del user.later
    assert not differences(before, raw_snapshot(base, user))
    swapped.undo()


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (f"{BASE}.absent", "nothing of that name"),
        ("g4synthetic.nowhere.kernel", "ModuleNotFoundError"),
        (f"{BASE}.calls", "a list"),
        (KERNEL, "another of ours"),
    ],
)
def test_one_refusal_leaves_everything_as_it_was(modules: tuple[Any, Any], target: str, found: str) -> None:
    before = raw_snapshot(*modules)
    with pytest.raises(PatchRefused, match=found):
        swap("test", [Swap(KERNEL, StandIn), Swap(target, StandIn)])
    assert not differences(before, raw_snapshot(*modules))


def test_a_later_owner_is_reported_and_left_alone(modules: tuple[Any, Any], caplog: pytest.LogCaptureFixture) -> None:
    base, user = modules
    kernel, other = base.kernel, object()
    swapped = swap("test", [Swap(KERNEL, StandIn)])
    base.kernel = other
    assert KERNEL in swapped.problems()[0]
    with caplog.at_level(logging.WARNING):
        swapped.undo()
    assert base.kernel is other and user.launcher is kernel and "left as it is" in caplog.text
