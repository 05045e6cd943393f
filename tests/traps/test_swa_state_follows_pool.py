"""SWA state of the pool that is read, on entry; both as before, on exit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from g4diag.model import PoolSwap
from g4diag.traps.swa_state_follows_pool import TRAP
from tests import samples, strategies

TARGET, OWN = "target:SWAKVPool", "draft:MHATokenToKVPool"


def swap(**changes: Any) -> PoolSwap:
    """A healthy entry into the target's pool."""
    return replace(samples.stale_swap(), **{"swa_state": TARGET} | changes)


@pytest.mark.parametrize(
    "healthy",
    [
        swap(),
        swap(graph_swa_tables=True),
        swap(read_pool=OWN, read_pool_is_swa=False, swa_state=None),
        swap(read_pool=OWN, read_pool_is_swa=False, swa_state=TARGET),
        swap(read_pool=OWN, read_pool_is_swa=False, swa_state=None, frozen_kv=False, graph_swa_tables=False),
        swap(moment="exit", read_pool=OWN, swa_state=TARGET, before=(OWN, TARGET)),
        swap(moment="exit", before=None),
        swap(wanted_pool=TARGET),
    ],
    ids=str,
)
def test_healthy_edges_are_silent(healthy: PoolSwap) -> None:
    assert not list(TRAP.judge(healthy))


@pytest.mark.parametrize(
    ("faulty", "says"),
    [
        (swap(swa_state=None), "its SWA state is of no pool"),
        (swap(swa_state="other:SWAKVPool"), "its SWA state is of other:SWAKVPool"),
        (swap(read_pool=OWN, read_pool_is_swa=False, frozen_kv=False), "reads its own"),
        (swap(read_pool=OWN, read_pool_is_swa=False, wanted_pool=TARGET), f"where {TARGET} is to be read"),
        (swap(graph_swa_tables=False), "buffers present: False"),
        (swap(moment="exit", read_pool=TARGET, before=(OWN, TARGET)), "found (draft"),
        (swap(moment="exit", read_pool=OWN, swa_state=None, before=(OWN, TARGET)), "SWA state None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_faulty_edges_fire_once_and_say_which(faulty: PoolSwap, says: str) -> None:
    (violation,) = TRAP.judge(faulty)
    assert says in violation.summary and violation.summary.startswith(f"{faulty.site} ({faulty.moment}): ")
    assert (violation.count, violation.checked, violation.backend) == (1, 1, faulty.backend)


@given(strategies.swaps)
def test_it_never_raises(edge: PoolSwap) -> None:
    assert len(list(TRAP.judge(edge))) <= 1
