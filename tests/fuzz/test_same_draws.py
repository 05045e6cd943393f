"""A seed draws the same whatever the process has imported."""

from __future__ import annotations

import pytest

pytest.importorskip("sglang")

from hypothesis.internal.conjecture import providers

from g4diag.fuzz.replay import machines
from g4diag.fuzz.runner import Budget, run


def test_nothing_is_drawn_from_the_source_of_what_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypothesis takes every twentieth integer from there, where a machine of ours does not keep it from that."""
    monkeypatch.setattr(providers, "_get_local_constants", lambda: pytest.fail("it reads what was imported"))
    found = run(machines()["swa-allocator"], Budget(examples=20))
    assert found.failure is None and found.steps > 200
