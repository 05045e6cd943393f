"""Use of the pools over the ring: start, peak, end, filled or not, and the slots that lost their SWA side."""

from __future__ import annotations

import json

from hypothesis import given, settings

from g4diag.analyzers.occupancy import ANALYZER
from g4diag.model import Grade, Incident, RingRecord
from tests import strategies


def step(n: int, full_free: int, swa_free: int, **changes: int) -> RingRecord:
    return RingRecord(
        n, n * 10**9, "step", n, "DECODE", batch=2, waiting=1, full_size=1000, full_free=full_free, swa_size=200,
        swa_free=swa_free, **changes,
    )  # fmt: skip


def ring(*records: RingRecord) -> Incident:
    return Incident("x", ring=records)


def test_start_peak_and_end() -> None:
    mark = RingRecord(3, 2 * 10**9, "violation", text="x")
    full, swa, sides = ANALYZER.analyze(ring(step(1, 900, 100), step(2, 700, 2), mark, step(4, 700, 50)))
    assert full.text == (
        "full pool: 10.0% in use at step 1, peak 30.0% at step 2, 30.0% at step 4; "
        "full at none of these steps, 700 slots free at the peak"
    )
    assert "peak 99.0% at step 2, 75.0% at step 4; full at none of these steps, 2 slots free at the peak" in swa.text
    assert swa.data["points"]["seconds"] == [-3.0, -2.0, 0.0] and swa.data["points"]["use"] == [0.5, 0.99, 0.75]
    assert (sides.grade, sides.data["points"]) == (Grade.DERIVED, {"step": [1, 2, 4], "slots": [0, 102, 150]})


def test_a_pool_that_filled_is_said_with_what_was_refused() -> None:
    _, swa, _ = ANALYZER.analyze(ring(step(1, 900, 100, refused=1), step(2, 800, 0, refused=4)))
    assert swa.text.endswith("it filled; 3 allocations were refused") and swa.data["filled"]


def test_a_long_ring_is_thinned_and_the_peak_stays() -> None:
    steps = [step(n, 500, 0 if n == 1234 else 100) for n in range(1, 2001)]
    _, swa, _ = ANALYZER.analyze(ring(*steps))
    assert len(swa.data["points"]["step"]) == 500 and 1234 in swa.data["points"]["step"] and swa.data["filled"]


def test_nothing_without_sized_steps() -> None:
    assert not list(ANALYZER.analyze(ring()))
    assert not list(ANALYZER.analyze(ring(RingRecord(1, 0, "step", 1), RingRecord(2, 0, "start"))))


@settings(max_examples=30, deadline=None)
@given(strategies.incidents)
def test_any_incident_gives_plain_values(incident: Incident) -> None:
    json.dumps([finding.data for finding in ANALYZER.analyze(incident)], allow_nan=False)
