"""Violations of sglang's KV canary, decoded: which pool, slot and position, and what was wrong there."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.log_rungs import canary
from g4diag.analyzers.log_words import canaries, told
from g4diag.model import Finding, Grade, Incident

_SHOWN = 4


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding a kind of violation of each rank, the first of it decoded."""
    noise = "; as kv-canary-gemma-positions has it, no sign of wrong K/V" if told(incident).is_noise else ""
    for event in canaries(incident)[:_SHOWN]:
        data = {
            **{key: getattr(event, key) for key in ("tag", "pool", "part", "reason", "slot", "position", "count")},
            "source": event.source,
        }
        yield Finding("kv_canary", f"{canary(event)}{noise}", Grade.MEASURED, True, data, "canary")


ANALYZER = Analyzer("kv_canary", "What did sglang's own canary find?", analyze)
