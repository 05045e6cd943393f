"""The real bug of sglang #17630: a draft's pool is sized before the target's is made larger."""

from __future__ import annotations

from g4diag.scenario.catalogue import drive_of
from g4diag.selftests.contract import Break

SELFTEST = Break(
    name="page_table_stays_in_pool",
    how="sglang #17630 put back; the draft is handed a page that the target's pool has and its own has not.",
    drive=lambda broken: drive_of("draft-pool-too-small")(others=1600),
    faults=("draft-pool-before-swa-adjustment",),
)
