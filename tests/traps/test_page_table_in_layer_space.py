"""Fires on the silent phase, on the loud one, and on the mirror bug; silent where the table is right."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from g4diag.model import AttentionRead, IndexSpace, LayerKind, Severity
from g4diag.traps.page_table_in_layer_space import TRAP
from tests import samples, strategies

WRONG_BUT_IN_RANGE = 7


def silent_phase() -> AttentionRead:
    read = samples.healthy_read(table_space=None)
    read.page_table_BP[0, samples.LAST] = WRONG_BUT_IN_RANGE
    return read


def test_healthy_table_is_silent() -> None:
    assert not list(TRAP.judge(samples.healthy_read()))
    assert not list(TRAP.judge(samples.healthy_read(table_space=None)))


def test_silent_phase_fires_and_says_where() -> None:
    (violation,) = TRAP.judge(silent_phase())
    assert violation.severity is Severity.ERROR and (violation.row, violation.column) == (0, samples.LAST)
    assert (violation.value, violation.expected, violation.bound) == (WRONG_BUT_IN_RANGE, 102, 154)
    assert (violation.count, violation.checked) == (1, 3)


def test_frozen_kv_swa_bug_fires() -> None:
    (violation,) = TRAP.judge(samples.faulty_read())
    assert violation.count == 3 and violation.value_space is IndexSpace.FULL_PAGE


def test_mirror_bug_fires() -> None:
    """GIVEN a draft with its own full-only pool WHEN its table is translated to SWA ids THEN it fires."""
    healthy = samples.healthy_read()
    mirror = samples.healthy_read(pool=samples.full_pool(), layer_kind=LayerKind.FULL, window_left=-1, mapping=None)
    (violation,) = TRAP.judge(mirror)
    assert violation.severity is Severity.ERROR and violation.expected_space is IndexSpace.FULL_PAGE
    assert violation.value == healthy.page_table_BP[0, 0] and violation.expected == 128
    cured = samples.faulty_read(pool=samples.full_pool(), layer_kind=LayerKind.FULL, window_left=-1, mapping=None)
    assert not list(TRAP.judge(cured))


def test_wrong_label_with_agreeing_values_is_a_warning() -> None:
    (violation,) = TRAP.judge(samples.healthy_read(table_space=IndexSpace.FULL_PAGE))
    assert violation.severity is Severity.WARNING and violation.count == 0


def test_wrong_label_alone_is_an_error_where_values_cannot_be_told() -> None:
    (violation,) = TRAP.judge(samples.faulty_read(full_page_table_BP=None))
    assert violation.severity is Severity.ERROR and violation.expected is None


def test_unknown_space_and_unknown_values_say_nothing() -> None:
    assert not list(TRAP.judge(samples.faulty_read(full_page_table_BP=None, table_space=None)))


def test_stale_and_padded_entries_are_ignored() -> None:
    read = samples.healthy_read()
    read.page_table_BP[0, : samples.FIRST] = 99999
    read.page_table_BP[0, samples.LAST + 1 :] = 99999
    assert not list(TRAP.judge(read))
    padded = samples.faulty_read(seq_lens_B=np.zeros(1, dtype=np.int32))
    assert not list(TRAP.judge(padded))


@given(strategies.reads())
def test_it_never_raises_and_points_at_a_live_entry(read: AttentionRead) -> None:
    for violation in TRAP.judge(read):
        assert read.live_BP()[violation.row, violation.column]
