"""A layer writes its K/V to this batch's slots in its own pool's space, by value or by whose tensor it was handed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from g4diag.model import IndexMapping, IndexSpace, KVSlots, LayerKind, PoolView, Severity
from g4diag.signature import signature
from g4diag.traps.kv_slots_in_layer_space import TRAP
from g4diag.verdict import verdict_line
from tests import strategies

FULL, SWA = IndexSpace.FULL_PAGE, IndexSpace.SWA_PAGE
BATCH = np.array([16, 17, 33], dtype=np.int64)


def mapping(apart: int) -> IndexMapping:
    """Full slot n is SWA slot n + apart, but for the dummy page."""
    slots = np.arange(65, dtype=np.int64) + apart
    slots[:16], slots[-1] = 0, -1
    return IndexMapping(slots, 16)


def write(slots: Any = None, own: Any = BATCH, *, space: Any = None, apart: int = 16, pool: Any = SWA) -> KVSlots:
    """Three tokens of a layer whose pool has four pages of 16 slots."""
    kind = LayerKind.SWA if pool is SWA else None
    known = slots is not None
    return KVSlots(
        *("target", "extend", "eager", "TRTLLMHAAttnBackend", 1, kind),
        pool=PoolView("swa" if pool is SWA else "draft-own", pool, 16, 5),
        slots_space=space,
        tokens=3,
        slots_N=slots,
        full_slots_N=own if known else None,
        mapping=mapping(apart) if known and pool is SWA else None,
    )


@pytest.mark.parametrize(
    "healthy",
    [
        write(BATCH + 16),
        write(),
        write(BATCH, pool=FULL),
        write(BATCH, space=IndexSpace.FULL_SLOT, pool=FULL),
        write(space=IndexSpace.FULL_SLOT, pool=FULL),
        write(np.array([0, 0, 0]), np.array([0, 0, 0])),
    ],
    ids=["translated", "not on the host", "own pool", "own pool, own tensor", "the same, unread", "padding"],
)
def test_what_goes_where_it_is_read_is_silent(healthy: KVSlots) -> None:
    assert not list(TRAP.judge(healthy))


def test_full_slots_on_a_sliding_layer_are_an_error_at_the_first_wrong_one() -> None:
    (violation,) = TRAP.judge(write(BATCH, space=IndexSpace.FULL_SLOT))
    assert violation.severity is Severity.ERROR
    assert (violation.column, violation.value, violation.expected, violation.bound) == (0, 16, 32, 80)
    assert (violation.count, violation.checked) == (3, 3)
    assert "slot 16 at token 0: inside the bound 80, so nothing faults, but SWA slot 32 belongs there" in verdict_line(
        violation
    )
    assert signature(violation) == "g4d1:kv_slots_in_layer_space:swa-slot:swa:trtllm_mha:extend"


def test_one_stale_slot_in_a_translation_is_found_and_one_past_the_pool_said_to_be() -> None:
    (violation,) = TRAP.judge(write(np.array([32, 33, 99])))
    assert (violation.column, violation.value, violation.expected, violation.count) == (2, 99, 49, 1)
    assert "20 past the last of 80 slots" in verdict_line(violation)


def test_the_mirror_a_pool_of_its_own_that_is_translated() -> None:
    (violation,) = TRAP.judge(write(BATCH + 16, pool=FULL))
    assert (violation.value, violation.expected) == (32, 16) and violation.severity is Severity.ERROR


def test_a_wrong_tensor_whose_values_agree_is_a_warning_and_unread_an_error() -> None:
    (armed,) = TRAP.judge(write(BATCH, space=IndexSpace.FULL_SLOT, apart=0))
    assert armed.severity is Severity.WARNING and "they still agree" in armed.summary and armed.count == 0
    (unread,) = TRAP.judge(write(space=IndexSpace.FULL_SLOT))
    assert unread.severity is Severity.ERROR and "cannot be checked here" in unread.summary and unread.count == 3


@given(strategies.kv_slots)
def test_it_never_raises(any_write: KVSlots) -> None:
    assert len(list(TRAP.judge(any_write))) <= 1
