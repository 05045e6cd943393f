"""What a file comes to, in one line: the first rung of the ladder that the file reaches.

ERROR: a claim is broken, judged here. LIKELY: a trap's record, or a known issue whose facts all hold. CRASH: told, and
its cause is not in the file, or no more of it than the line that raised it. HEALTHY: judged whole, and nothing is
broken. INCONCLUSIVE: the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from g4diag.analyzers import log_rungs
from g4diag.analyzers.causes import headline
from g4diag.analyzers.judging import Judgement, judge
from g4diag.analyzers.log_words import is_log
from g4diag.analyzers.matching import Match, matched
from g4diag.analyzers.once import once
from g4diag.analyzers.recorded_violations import recorded
from g4diag.model import DEVICE_KINDS, Grade, Incident, Outcome, Severity, Violation, surfaced_at
from g4diag.verdict import past_the_end, verdict_line


@dataclass(frozen=True)
class Conclusion:
    """outcome: the rung. text: what follows its word. line: a verdict line that stands for word and text."""

    outcome: Outcome
    text: str
    grade: Grade
    data: dict[str, Any] = field(default_factory=dict)
    line: str = ""
    kind: str = ""
    premises: tuple[str, ...] = ()

    @property
    def first_line(self) -> str:
        """As it is printed."""
        return self.line or f"{self.outcome.upper()}: g4diag: {self.text}"


@once
def conclude(incident: Incident) -> Conclusion:
    """The conclusion of one file."""
    return next(filter(None, (rung(incident) for rung in _RUNGS)))


def _error(incident: Incident) -> Conclusion | None:
    first = headline(incident)
    if first is None or (first.violation.severity is Severity.WARNING and _errors(_not_cleared(incident))):
        return None  # a wrong id on record says more than a wrong label here
    violation = first.violation
    data = {"trap": violation.trap, "past_the_end": past_the_end(violation), **_place(violation)}
    return Conclusion(Outcome.ERROR, "", Grade.MEASURED, data, verdict_line(violation), kind="broken")


def _likely(incident: Incident) -> Conclusion | None:
    """By what a trap recorded and this file cannot show again, else by a known issue all of whose facts hold."""
    on_record = _not_cleared(incident)
    if not on_record and log_rungs.leak(incident):
        return None  # the arithmetic leads
    match = matched(incident)
    if match is None and not on_record and (canary := log_rungs.recorded(incident)):
        return Conclusion(Outcome.LIKELY, canary, Grade.MEASURED, kind="canary")
    if match is not None and judge(incident).checked and not on_record:
        return None  # what was judged is whole; the issue says why somebody else complained
    if match is None and not on_record:
        return None
    sources = tuple(_sources(incident, on_record, match))
    what = f"{match.issue.id}: {match.issue.title}" if match else f"on record: {_said(on_record[0])}"
    text = f"{what}; {_told_by(incident, on_record, sources)}"
    data: dict[str, Any] = {"issue": match.issue.id if match else None, "sources": list(sources)}
    return Conclusion(Outcome.LIKELY, text, Grade.DERIVED, data, premises=sources)


def _leak(incident: Incident) -> Conclusion | None:
    text = log_rungs.leak(incident)
    if text is None:
        return None
    match = matched(incident)
    issue = f"; {match.issue.id}: {match.issue.title}" if match else ""
    return Conclusion(
        Outcome.LEAK, text + issue, Grade.DERIVED, {"issue": match.issue.id if match else None}, kind="leak"
    )


def _hardware(incident: Incident) -> Conclusion | None:
    text = log_rungs.fault_of_hardware(incident)
    return None if text is None else Conclusion(Outcome.HARDWARE, text, Grade.DERIVED, kind="hardware")


def _collapse(incident: Incident) -> Conclusion | None:
    text = log_rungs.collapse(incident)
    return None if text is None else Conclusion(Outcome.INCONCLUSIVE, text, Grade.DERIVED)


def _quiet(incident: Incident) -> Conclusion | None:
    if judge(incident).checked:
        return None
    text = log_rungs.healthy(incident)
    return None if text is None else Conclusion(Outcome.HEALTHY, text, Grade.MEASURED, kind="quiet")


def _crash(incident: Incident) -> Conclusion | None:
    text = _crashed(incident)
    if text is None:
        return None
    if is_log(incident) and log_rungs.names_its_line(incident):
        return Conclusion(Outcome.CRASH, f"{text}; raised there by Python itself", Grade.DERIVED, kind="raised")
    return Conclusion(Outcome.CRASH, f"{text}; its cause is not in this file", Grade.DERIVED)


def _unread(incident: Incident) -> Conclusion | None:
    if not incident.unread:
        return None
    more = f", and {len(incident.unread) - 1} more" if len(incident.unread) > 1 else ""
    judged = judge(incident).checked
    rest = f"; the {judged} entries that were read hold" if judged else ""
    data = {"unread": list(incident.unread), "checked": judged, "more": len(incident.unread) - 1}
    return Conclusion(Outcome.INCONCLUSIVE, f"{incident.unread[0]}{more}{rest}", Grade.MEASURED, data, kind="unread")


def _judged(incident: Incident) -> Conclusion | None:
    judgement = judge(incident)
    if not judgement.checked or judgement.errors or _cleared(incident):
        return None
    ran = sum(1 for row in judgement.rows if row.judged)
    text = f"{judgement.checked} entries, {ran} of {len(judgement.rows)} traps apply, nothing broken"
    data = {"checked": judgement.checked, "judged": ran, "traps": len(judgement.rows)}
    return Conclusion(Outcome.HEALTHY, text, Grade.MEASURED, data, kind="healthy")


def _inconclusive(incident: Incident) -> Conclusion:
    judgement = judge(incident)
    counts = {"errors": len(judgement.errors), "traps": len(judgement.rows)}
    if judgement.errors:
        text = f"{counts['errors']} of {counts['traps']} traps could not judge"
        return Conclusion(Outcome.INCONCLUSIVE, text, Grade.MEASURED, counts, kind="errors")
    if cleared := _cleared(incident):
        text = f"{cleared[0]} was recorded as broken when the file was written; judged again, it holds"
        return Conclusion(Outcome.INCONCLUSIVE, text, Grade.MEASURED, {"trap": cleared[0]}, kind="cleared")
    text = "this file holds no page tables, allocations or pool swaps, so nothing could be judged"
    return Conclusion(Outcome.INCONCLUSIVE, text, Grade.MEASURED, {"checked": 0}, kind="nothing")


_RUNGS: tuple[Callable[[Incident], Conclusion | None], ...] = (
    *(_error, _likely, _leak, _hardware, _crash, _collapse, _unread, _judged, _quiet),
    _inconclusive,
)


def _place(violation: Violation) -> dict[str, Any]:
    names = ("step", "layer_id", "row", "column", "value", "expected", "low", "bound", "window_left", "count")
    return {name: getattr(violation, name) for name in names}


def _not_cleared(incident: Incident) -> list[Violation]:
    """Violations on record that this file does not show again: their trap could judge nothing here, or not the table
    that they were seen in. A graph's table that was copied later is another step's."""
    judged = _could_judge(judge(incident))
    return [v for v in recorded(incident) if v.trap not in judged or not _shown(v, incident)]


def _cleared(incident: Incident) -> list[str]:
    left = _not_cleared(incident)
    return sorted({violation.trap for violation in recorded(incident) if violation not in left})


def _shown(violation: Violation, incident: Incident) -> bool:
    """Whether the file may hold what it was seen in: of a layer, a table of that layer and step that has its row."""
    if violation.layer_id is None or violation.row is None:
        return True
    return any(
        read.layer_id == violation.layer_id
        and violation.step in (None, -1, read.step)
        and violation.row < len(read.seq_lens_B)
        for read in incident.reads
    )


def _errors(violations: list[Violation]) -> list[Violation]:
    return [violation for violation in violations if violation.severity is Severity.ERROR]


def _could_judge(judgement: Judgement) -> set[str]:
    return {row.name for row in judgement.rows if row.judged}


def _said(violation: Violation) -> str:
    return verdict_line(violation).partition(": g4diag: ")[2]


def _sources(incident: Incident, on_record: list[Violation], match: Match | None) -> Iterator[str]:
    if on_record:
        first = on_record[0]
        place = f" (row {first.row})" if first.row is not None else ""
        yield f"the record of {first.trap}{place}"
    for fault in incident.faults[:1]:
        block = f", {fault.meaning}" if fault.meaning else ""
        yield f"a core dump ({fault.kernel.partition('(')[0]}: {fault.exception}{block})"
    if match is not None and not match.by_signature:
        yield f"what was printed: {match.by}" + (f" ({', '.join(match.facts)})" if match.facts else "")


def _told_by(incident: Incident, on_record: list[Violation], sources: tuple[str, ...]) -> str:
    """Who says so; in short where a record and a core dump name one row."""
    if not on_record:
        return f"by {' and '.join(sources)}"
    again = "no page table here to check again, but "
    row = on_record[0].row
    fault = next(iter(incident.faults), None)
    if row is not None and fault is not None and f"row {row}," in f"{fault.meaning},":
        kernel = fault.kernel.partition("(")[0]
        return f"{again}the record of {on_record[0].trap} and the core dump of {kernel} agree on row {row}"
    return f"{again}{' and '.join(sources)} {'say' if len(sources) > 1 else 'says'} so"


def _crashed(incident: Incident) -> str | None:
    if is_log(incident):
        return log_rungs.crash(incident)
    if incident.faults:
        fault = incident.faults[0]
        return f"{fault.kernel.partition('(')[0]} faulted ({fault.exception})"
    told = next((event for event in incident.log if event.kind in (*DEVICE_KINDS, "exception", "exit")), None)
    if told is None:
        return None
    surfaced = surfaced_at(incident.log)
    return f"{told.text}" + (f", surfaced at {surfaced.where}" if surfaced and surfaced.where else "")
