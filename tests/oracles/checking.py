"""Every sentence of an inspection against its oracle."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from g4diag.model import Finding, Grade, Incident, Inspection
from tests.oracles import arrays, derived, pools, readings, refuted, tables, verdicts
from tests.oracles.contract import Oracle

ORACLES: dict[str, Oracle] = {}
for _those in (verdicts, tables, pools, refuted, derived, readings):
    assert not ORACLES.keys() & _those.ORACLES.keys()
    ORACLES |= _those.ORACLES

# Measured sentences without a kind, by subject: they repeat what the file says, and say nothing of its arrays.
QUOTES = {
    "provenance": "the manifest's names, the faults that were armed, and the reader's notes",
    "error_lines": "lines of a log, word for word",
    "flight_recorder": "marks as they were written",
    "misattribution": "the kernel that a core dump names",
    "parts": "what each of several files came to",
    "timeline": "moments of several files in order",
    "verdict": "one of several files that could not be read; what a trap raised instead of judging (`errors`)",
}
QUOTED_KINDS = ("errors",)
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?%?(?![\w])")
# Names that hold digits, and the texts of others.
_NAMES = ("rid", "owner", "name", "call", "pool", "trap", "backend")


@dataclass
class Checked:
    """What was looked at: sentences of each kind, and what was false in any."""

    counts: Counter[str] = field(default_factory=Counter)
    false: list[str] = field(default_factory=list)

    def look(self, inspection: Inspection, incident: Incident) -> None:
        for finding in inspection.findings:
            if finding.kind in ORACLES:
                self.counts[finding.kind] += 1
            self.false += [f"{finding.subject} ({finding.kind}): {finding.text}: {what}" for what in false_in(finding, incident)]


def false_in(finding: Finding, incident: Incident) -> Iterator[str]:
    """What is false in one finding."""
    if finding.kind in ORACLES:
        yield from ORACLES[finding.kind](finding, incident)
        yield from unnamed_numbers(finding, incident)
    elif finding.grade is Grade.MEASURED and finding.kind not in QUOTED_KINDS:
        if finding.kind or finding.subject not in QUOTES:
            yield "a measured sentence without an oracle"


def unnamed_numbers(finding: Finding, incident: Incident) -> Iterator[str]:
    """Numbers in the text that are no value of the data."""
    text = finding.text
    for name in sorted({*_words(finding, incident)}, key=len, reverse=True):
        text = text.replace(name, "_")
    known = [*arrays.numbers(finding.data)]
    for said in _NUMBER.findall(text.replace("..", " ")):
        number, digits = said.rstrip("%"), len(said.rstrip("%").partition(".")[2])
        scale = 100 if said.endswith("%") else 1
        if not any(f"{value * scale:.{digits}f}" == number for value in known):
            yield f"{said} is not in the data"


def _words(finding: Finding, incident: Incident) -> Iterator[str]:
    """Strings that the file gave, which may hold digits of their own."""
    def strings(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for inner in value.values():
                yield from strings(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                yield from strings(inner)

    by = {key: value for key, value in finding.data.items() if key != "by"}
    named = [*strings(by), incident.origin]
    for read in (*incident.reads, *incident.kv_slots, *incident.query_rows):
        named += [read.backend, read.phase, read.worker, read.path, read.pool.name if hasattr(read, "pool") else "", *getattr(read, "rids", ())]
    named += [request.rid for request in incident.requests]
    yield from (name for name in named if any(letter.isdigit() for letter in name))
