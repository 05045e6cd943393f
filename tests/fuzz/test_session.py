"""What sglang raises through a probe around it is sglang's, and so is the time it takes there."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.fuzz.session import Broken, opened
from g4diag.hooks.install import Hook
from tests.fuzz.toy import toy

TARGET = "sglang.srt.mem_cache.memory_pool.ReqToTokenPool.alloc"


def through(original: Any, *args: Any) -> Any:
    """A probe around it that only looks."""
    return original(*args)


def test_an_exception_through_a_probe_is_the_subjects() -> None:
    from sglang.srt.mem_cache.memory_pool import ReqToTokenPool

    machine = replace(toy(), probes=lambda sink, books: [Hook(TARGET, "around", through, observes=True)])
    with opened(machine), pytest.raises(Broken, match=r"^model:call_returns: alloc raised AttributeError"):
        machine.drives().call(ReqToTokenPool(1, 1, "cpu", False).alloc, [object()])


def test_its_time_inside_a_probe_is_the_subjects() -> None:
    with opened(toy()) as session:
        session.timed(session.around(through), time.sleep, 0.02)
        assert session.inside > 0.015
