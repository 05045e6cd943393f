"""The real bug of sglang #25805: a full page that comes again keeps the SWA mapping of its last life."""

from __future__ import annotations

from g4diag.scenario.catalogue import drive_of
from g4diag.selftests.contract import Break

SELFTEST = Break(
    name="mapping_follows_allocation",
    how="sglang #25805 put back; a recycled full page is handed out without an SWA slot.",
    drive=lambda broken: drive_of("stale-mapping-on-recycle")(freed=17),
    faults=("tail-alloc-keeps-stale-mapping",),
)
