"""A matched prefix's window has its SWA slots."""

from __future__ import annotations

from hypothesis import given

from g4diag.model import IndexSpace, PrefixMatch
from g4diag.traps.matched_prefix_is_mapped import TRAP
from tests import strategies
from tests.traps.calls import int64


def match(*mapped: int) -> PrefixMatch:
    return PrefixMatch("UnifiedRadixCache", 40, len(mapped), int64(*range(100, 100 + len(mapped))), int64(*mapped))


def test_a_window_that_is_mapped_is_silent() -> None:
    assert not list(TRAP.judge(match(7, 8, 9))) and not TRAP.needs(match(7))
    assert TRAP.needs(match()), "nothing was matched"


def test_a_key_without_an_swa_slot_is_named_with_the_cache() -> None:
    (violation,) = TRAP.judge(match(7, 0, 0, 9))
    assert "UnifiedRadixCache matched 40 tokens, and of the last 4" in violation.summary
    assert "2 have no SWA slot; the first is full slot 101" in violation.summary
    assert (violation.column, violation.count, violation.checked) == (1, 2, 4)
    assert violation.expected_space is IndexSpace.SWA_SLOT and violation.phase == "match_prefix"


@given(strategies.prefix_matches)
def test_it_never_raises(found: PrefixMatch) -> None:
    assert len(list(TRAP.judge(found))) <= 1
