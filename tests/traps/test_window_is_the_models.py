"""A layer's window is what it was built with, and no more than its cache keeps, but for the key that 0.5.13 adds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from g4diag.model import AttentionRead, Windows
from g4diag.traps.window_is_the_models import TRAP
from tests import samples, strategies


def read(handed: int, kept: int, built: int, widest: int | None = None, **changes: Any) -> AttentionRead:
    windows = Windows(kept, built, built if widest is None else widest)
    return samples.healthy_read(window_left=handed, windows=windows, **changes)


@pytest.mark.parametrize(
    "healthy",
    [
        pytest.param(read(511, 511, 511), id="as from 0.5.14 on"),
        pytest.param(read(512, 511, 512), id="as Gemma-4 in 0.5.13"),
        pytest.param(read(128, 511, 128, widest=511), id="a narrower layer beside a wide one"),
        pytest.param(samples.healthy_read(), id="not known"),
        pytest.param(read(-1, 511, 511), id="a layer without a window"),
    ],
)
def test_the_models_own_is_silent(healthy: AttentionRead) -> None:
    assert not list(TRAP.judge(healthy))


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (read(510, 511, 511), "hands its kernel a window of 510 keys, and was built with one of 511"),
        (read(511, 511, 512), "hands its kernel a window of 511 keys, and was built with one of 512"),
        (read(513, 511, 513), "and the K/V cache of its model keeps 511"),
        (read(510, 511, 510), "no layer of its model a wider one than 510, and its cache keeps 511"),
    ],
)
def test_another_window_fires(broken: AttentionRead, says: str) -> None:
    (violation,) = TRAP.judge(broken)
    assert says in violation.summary and violation.window_left == broken.window_left


def test_needs_say_what_a_read_lacks() -> None:
    assert TRAP.needs(samples.healthy_read()) == "the model's own window"
    assert TRAP.needs(read(-1, 511, 511)) == "a layer with a window" and not TRAP.needs(read(511, 511, 511))


@given(strategies.reads())
def test_it_never_raises(found: AttentionRead) -> None:
    assert len(list(TRAP.judge(found))) <= 1
