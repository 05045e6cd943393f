"""An answer is kept for the very incident that was asked about, while it lives."""

from __future__ import annotations

import gc

from g4diag.analyzers.once import once
from g4diag.model import Incident


def test_once_for_each_incident_by_identity_and_not_longer_than_it_lives() -> None:
    asked: list[str] = []

    @once
    def origin(incident: Incident) -> list[str]:
        asked.append(incident.origin)
        return [incident.origin]

    first, twin = Incident("a"), Incident("a")
    assert origin(first) is origin(first) and asked == ["a"]
    assert origin(twin) == origin(first) and asked == ["a", "a"], "an equal one is another"
    del twin
    gc.collect()
    assert origin(Incident("b")) == ["b"] and origin(first) == ["a"] and len(asked) == 3


def test_only_the_last_few_are_kept() -> None:
    asked = 0

    @once
    def count(incident: Incident) -> int:
        nonlocal asked
        asked += 1
        return asked

    many = [Incident(str(n)) for n in range(9)]
    for incident in many:
        count(incident)
    assert count(many[-1]) == 9 and count(many[0]) == 10
