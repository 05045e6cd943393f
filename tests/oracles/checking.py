"""Every sentence of an inspection against its oracle."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from g4diag.model import Finding, Grade, Incident, Inspection
from tests.oracles import arrays, derived, pools, readings, refuted, sentences, tables, verdicts
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


@dataclass
class Checked:
    """What was looked at: sentences of each kind, and what was false in any."""

    counts: Counter[str] = field(default_factory=Counter)
    false: list[str] = field(default_factory=list)

    def look(self, inspection: Inspection, incident: Incident) -> None:
        for finding in inspection.findings:
            if finding.kind in ORACLES:
                self.counts[finding.kind] += 1
            said = f"{finding.subject} ({finding.kind}): {finding.text}"
            self.false += [f"{said}: {what}" for what in false_in(finding, incident)]


def false_in(finding: Finding, incident: Incident) -> Iterator[str]:
    """What is false in one finding."""
    if finding.kind in ORACLES:
        yield from ORACLES[finding.kind](finding, incident)
        yield from unnamed_numbers(finding, incident)
        yield from sentences.misplaced(finding)
    elif finding.grade is Grade.MEASURED and not is_quote(finding):
        yield "a measured sentence without an oracle"


def is_quote(finding: Finding) -> bool:
    """Whether it is one of those that only repeat what the file says."""
    return finding.kind in QUOTED_KINDS or (not finding.kind and finding.subject in QUOTES)


def unnamed_numbers(finding: Finding, incident: Incident) -> Iterator[str]:
    """Numbers in the text that are no value of the data. Names that the file gave may hold digits of their own."""
    known = arrays.numbers(finding.data)
    if not any(True for _ in _unnamed(finding.text, known)):
        return
    text = finding.text
    for name in sorted({*_words(finding, incident)}, key=len, reverse=True):
        text = text.replace(name, "_")
    yield from (f"{said} is not in the data" for said in _unnamed(text, known))


def _unnamed(text: str, known: list[int | float]) -> Iterator[str]:
    for said in _NUMBER.findall(text.replace("..", " ")):
        number, digits = said.rstrip("%"), len(said.rstrip("%").partition(".")[2])
        scale = 100 if said.endswith("%") else 1
        if not any(f"{value * scale:.{digits}f}" == number for value in known):
            yield said


def _words(finding: Finding, incident: Incident) -> Iterator[str]:
    told = arrays.leaves({key: value for key, value in finding.data.items() if key != "by"})
    named = [*(leaf for leaf in told if isinstance(leaf, str)), incident.origin]
    for view in (*incident.reads, *incident.kv_slots, *incident.query_rows):
        named += [view.backend, view.phase, view.worker, view.path, *getattr(view, "rids", ())]
    for view in (*incident.reads, *incident.kv_slots, *incident.allocations, *incident.releases, *incident.free_lists):
        named += [view.pool.name, getattr(view, "call", "")]
    for swap in incident.swaps:
        named += [swap.site, swap.moment, swap.backend, swap.read_pool, swap.swa_state or "", swap.wanted_pool or ""]
        named += [str(part) for part in swap.before or ()]
    named += [name for write in incident.kv_writes for name in (write.inside, write.pool)]
    named += [update.call for update in incident.mapping_updates]
    named += [request.rid for request in incident.requests] + [pool.name for pool in incident.pools]
    yield from (name for name in named if any(letter.isdigit() for letter in name))
