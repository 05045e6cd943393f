"""flashinfer-spec-window raises upstream's own error, not one of a stand-in; what does not raise any more, and the half
cure, are named by a trap, and their wrong slots counted."""

from __future__ import annotations

import pytest

pytest.importorskip("sglang")

from g4diag.scenario import DriveOutcome, Options
from g4diag.stack.releases import current
from repro.flashinfer_spec_window import SCENARIO
from tests.repro.conftest import silent


def test_upstream_subtracts_no_prefix_or_reads_the_wrong_end_as_the_half_cure_does() -> None:
    outcome = SCENARIO.run(Options(), silent)
    assert isinstance(outcome, DriveOutcome)
    rows = {row.state: row for row in outcome.readings}
    assert outcome.cell is not None and outcome.cell.standing == "alive"
    raises = current().name == "0.5.13"
    for state in ("half-cure", "evicted", *(() if raises else ("upstream", "graph"))):
        assert rows[state].traps == ("page_table_in_layer_space",)
    for state in ("upstream", "graph"):
        assert raises or "11 wrong, 0 of those slot 0" in rows[state].says
        assert (
            not raises or rows[state].error == "TypeError: unsupported operand type(s) for -: 'Tensor' and 'NoneType'"
        )
    # The window, 7, and the drafted tokens, 4, are all of other tokens; what the full layers read is right.
    assert [rows[state].damaged for state in ("half-cure", "evicted", "cure")] == [11, 11, 0]
    assert "11 wrong, 0 of those slot 0" in rows["half-cure"].says
    assert "11 wrong, 11 of those slot 0" in rows["evicted"].says
    assert rows["cure"].checked == 11 + 34 and rows["full"].checked == 34
