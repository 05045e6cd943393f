"""Fires where the mapping sends K/V to another slot than was handed out, though the write follows the mapping."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from g4diag.model import IndexMapping, KVSlots, LayerKind
from g4diag.traps import kv_slots_in_layer_space
from g4diag.traps.kv_slots_are_those_handed_out import TRAP
from tests import samples, strategies
from tests.traps.calls import int64

MAPPING = IndexMapping(int64(*([0] * 64), *range(8, 24), -1), 16)


def write(*handed: int, **changes: Any) -> KVSlots:
    """K/V of two tokens, to full slots 64 and 65, which map to SWA slots 8 and 9."""
    found: dict[str, Any] = {
        "worker": "target",
        "phase": "decode",
        "path": "eager",
        "backend": "",
        "layer_id": 0,
        "layer_kind": LayerKind.SWA,
        "pool": samples.swa_pool(),
        "slots_space": None,
        "tokens": 2,
        "slots_N": int64(8, 9),
        "full_slots_N": int64(64, 65),
        "mapping": MAPPING,
        "handed_out_N": int64(*handed) if handed else None,
    }
    return KVSlots(**found | changes)


def test_slots_that_were_handed_out_are_silent() -> None:
    assert not list(TRAP.judge(write(8, 9)))
    assert not list(TRAP.judge(write())) and TRAP.needs(write()) == "the slots that were handed out"
    assert not list(TRAP.judge(write(1, 2, pool=samples.full_pool())))


@pytest.mark.parametrize(
    ("handed", "says"),
    [
        ((8, 40), "full slot 65 maps to SWA slot 9, and SWA slot 40 was handed out with it"),
        ((8, 0), "full slot 65 maps to SWA slot 9, and nothing was handed out with it"),
    ],
)
def test_a_write_by_a_mapping_that_was_changed_fires(handed: tuple[int, ...], says: str) -> None:
    (violation,) = TRAP.judge(write(*handed))
    assert says in violation.summary and (violation.column, violation.count, violation.checked) == (1, 1, 2)
    assert not list(kv_slots_in_layer_space.TRAP.judge(write(*handed))), "it goes where the mapping says"


def test_a_write_to_the_dummy_page_fires() -> None:
    lost = IndexMapping(np.zeros_like(MAPPING.full_to_swa_M), 16)
    (violation,) = TRAP.judge(write(8, 9, mapping=lost, slots_N=int64(0, 0)))
    assert "full slot 64 maps to nothing, and SWA slot 8 was handed out with it" in violation.summary


@given(strategies.kv_slots)
def test_it_never_raises(found: KVSlots) -> None:
    assert len(list(TRAP.judge(found))) <= 1
