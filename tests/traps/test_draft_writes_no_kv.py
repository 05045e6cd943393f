"""Any write inside a view is one too many."""

from __future__ import annotations

from hypothesis import given

from g4diag.model import KVWrite
from g4diag.traps.draft_writes_no_kv import TRAP
from tests import strategies


def test_a_write_inside_a_view_fires_and_one_outside_does_not() -> None:
    (violation,) = TRAP.judge(KVWrite("target_kv_pool_view", "target:SWAKVPool", 4, 3))
    assert violation.summary == "3 tokens of K/V were written to target:SWAKVPool inside target_kv_pool_view"
    assert (violation.layer_id, violation.worker) == (4, "draft")
    assert not list(TRAP.judge(KVWrite("", "target:SWAKVPool", 4, 3)))


@given(strategies.kv_writes)
def test_it_never_raises(write: KVWrite) -> None:
    assert len(list(TRAP.judge(write))) <= 1
