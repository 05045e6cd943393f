"""What a storm of violations writes does not grow with them."""

from __future__ import annotations

import pytest

pytest.importorskip("sglang")

from benchmarks.serve_growth import measure


def test_a_storm_is_a_few_lines_and_one_dump() -> None:
    found = measure(1000, 0)
    assert found["violations"] == "seen 1000" and found["exit"] == 0
    assert found["violation lines"] == 4 and found["dumps: files"] == 1
    assert isinstance(found["logs: bytes"], int) and 0 < found["logs: bytes"] < 1 << 16
