"""The real bug of sglang #22470: eviction goes as far as the radix cache's insert boundary."""

from __future__ import annotations

from g4diag.scenario.catalogue import drive_of
from g4diag.selftests.contract import Break

SELFTEST = Break(
    name="page_in_window_is_mapped",
    how="sglang #22470 put back; a request takes up a prefix whose last SWA page is gone.",
    drive=lambda broken: drive_of("evict-past-insert")(window=8),
    faults=("eviction-reaches-insert-boundary",),
)
