"""Accept length over time: a collapse that no error line tells of, with the load and the pools beside it.

The target verifies every token, so that outputs stay right: all that is lost is speed.
"""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from g4diag.model.log import Batch, Batches, Event

_FEWEST, _FEWEST_FLAT = 4, 8
# Of what a draft adds to the one token that a step gives without it.
_GAIN, _LOST, _NOTHING = 0.3, 0.5, 0.12
_BARS, _ASCII = "▁▂▃▄▅▆▇█", "_.-:=+*#"
_WIDTH = 48


@dataclass(frozen=True)
class Course:
    """One process's accept length. kind: "collapse", "flat" (never much above 1) or "steady". before, after: accept
    length at first and at last, medians of a third each. highest, lowest: of all. worst: the sample at the lowest.
    load, swa, full: how each goes with the fall, -1..1 rank correlation with accept length; None if not told."""

    process: str
    rank: str
    kind: str
    samples: tuple[Batch, ...]
    before: float
    after: float
    highest: float
    lowest: float
    load: float | None = None
    swa: float | None = None
    full: float | None = None

    @property
    def first(self) -> Batch:
        return self.samples[0]

    @property
    def last(self) -> Batch:
        return self.samples[-1]


def courses(events: Iterable[Event]) -> tuple[Course, ...]:
    """Every process that says its accept length, collapses first."""
    found = [course for event in events if isinstance(event, Batches) if (course := _course(event))]
    return tuple(sorted(found, key=lambda course: ("collapse", "flat", "steady").index(course.kind)))


def _course(event: Batches) -> Course | None:
    # A decode line before any draft was verified says 0.
    samples = tuple(batch for batch in event.samples if batch.accept >= 1.0 and batch.requests != 0)
    if not samples:
        return None
    third = max(1, len(samples) // 3)
    before = statistics.median(batch.accept for batch in samples[:third])
    after = statistics.median(batch.accept for batch in samples[-third:])
    lengths = [batch.accept for batch in samples]
    kind = "steady"
    if len(samples) >= _FEWEST and before - 1 >= _GAIN and after - 1 <= (before - 1) * _LOST:
        kind = "collapse"
    elif len(samples) >= _FEWEST_FLAT and max(before, after, statistics.median(lengths)) - 1 <= _NOTHING:
        kind = "flat"
    return Course(
        *(event.process, event.rank, kind, samples, before, after, max(lengths), min(lengths)),
        load=_together(samples, [float(batch.requests) for batch in samples]),
        swa=_together(samples, [batch.swa_use for batch in samples]),
        full=_together(samples, [batch.full_use for batch in samples]),
    )


def _together(samples: Sequence[Batch], other: Sequence[float]) -> float | None:
    """Spearman's rank correlation of accept length with another course; None where that is not told or constant."""
    if min(other) < 0 or len(set(other)) < 2 or len({batch.accept for batch in samples}) < 2:
        return None
    return round(statistics.correlation(_ranks([batch.accept for batch in samples]), _ranks(other)), 2)


def _ranks(values: Sequence[float]) -> list[float]:
    """Equal values share the mean of their ranks."""
    order = sorted(values)
    return [(bisect.bisect_left(order, value) + bisect.bisect_right(order, value) - 1) / 2 for value in values]


def sparkline(values: Sequence[float], low: float, high: float, ascii_only: bool = False) -> str:
    """One sign a value, `_WIDTH` at most; each stands for the mean of its share of the values."""
    signs = _ASCII if ascii_only else _BARS
    if not values:
        return ""
    width = min(len(values), _WIDTH)
    shares = [values[n * len(values) // width : (n + 1) * len(values) // width] for n in range(width)]
    span = (high - low) or 1.0
    return "".join(signs[min(7, max(0, int((statistics.fmean(share) - low) / span * 7.999)))] for share in shares)
