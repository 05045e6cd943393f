"""What `serve` says that it will start."""

from __future__ import annotations

import pytest

from g4diag.serve.plan import Plan


@pytest.mark.parametrize(
    ("traps", "environ", "served"),
    [
        (("page_table_stays_in_pool",), {"G4DIAG_EXPLICIT_FLAGS": "tp,enable-metrics"}, True),
        (("page_table_stays_in_pool",), {"G4DIAG_EXPLICIT_FLAGS": "tp"}, False),
        (("page_table_stays_in_pool",), {"G4DIAG_EXPLICIT_FLAGS": "enable-metrics", "G4DIAG_METRICS": "off"}, False),
        ((), {"G4DIAG_EXPLICIT_FLAGS": "enable-metrics"}, False),
    ],
)
def test_metrics_are_served_with_traps_where_sglangs_are(
    traps: tuple[str, ...], environ: dict[str, str], served: bool
) -> None:
    assert Plan((), environ, (), traps, (), (), ()).serves_metrics is served
