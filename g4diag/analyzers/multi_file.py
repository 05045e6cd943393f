"""Several files as one story: the findings of the part that leads, what the others say to it, and one timeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from g4diag.analyzers import faulting_block
from g4diag.analyzers.leading import follows, leading, outcome_of, told_something
from g4diag.analyzers.processes import Processes
from g4diag.dump.case import Case, Part
from g4diag.dump.timeline import Moment
from g4diag.model import Finding, Grade, Incident, Inspection, Outcome

_MOMENTS = 200

Inspect = Callable[[Incident, str], Inspection]


def inspect_case(case: Case, name: str, inspect: Inspect) -> Inspection:
    """The part that tells the most leads, of several that name an error the first in time."""
    parts = tuple(inspect(part.incident, part.name) for part in case.parts)
    processes = Processes(case.parts)
    lead = leading(processes, parts)
    findings = (
        *_of_parts(parts, case.parts, lead),
        *processes.findings(),
        *_faulting_block(processes, lead, parts[lead]),
        *_timeline(case.timeline()),
        *_notes(case),
    )
    outcome, kept = outcome_of(case, parts), tuple(_unrefuted(parts, lead))
    if outcome is not parts[lead].outcome:
        kept = (_not_whole(case, outcome), *(finding for finding in kept if finding.subject != "verdict"))
    return replace(parts[lead], name=name, outcome=outcome, findings=(*kept, *findings), parts=parts)


def _not_whole(case: Case, outcome: Outcome) -> Finding:
    """The first line where what was read is healthy, and not all was read."""
    left = case.unread[0] if case.unread else "not every file could be judged"
    data = {"line": "verdict", "outcome": str(outcome), "unread": list(case.unread)}
    text = f"{outcome.upper()}: g4diag: {left}; what was read is healthy"
    return Finding("verdict", text, Grade.MEASURED, False, data)


def _of_parts(parts: Sequence[Inspection], told: Sequence[Part], lead: int) -> Iterator[Finding]:
    """One line a part: the one that leads, and whether each of the others agrees with it. None for a single one."""
    if len(parts) < 2:
        return
    mine = _signature(parts[lead])
    for index, (part, source) in enumerate(zip(parts, told, strict=True)):
        who = f"rank {source.rank}, {part.name}" if source.rank is not None else part.name
        theirs = _signature(part)
        if index == lead:
            said = f"leads ({part.outcome})"
        elif part.outcome is Outcome.ERROR and (after := follows(told, parts, lead, index)):
            said = after
        elif theirs is not None and theirs == mine:
            said = f"agrees: {theirs}"
        elif theirs is not None and _issue(part) is not None and _issue(part) == _issue(parts[lead]):
            said = f"agrees on {_issue(part)}, by another sign of it: {theirs}"
        elif theirs is not None:
            said = f"says otherwise: {theirs}"
        else:
            said = str(part.outcome) if told_something(part) else f"nothing to judge in it ({part.origin})"
        data = {"name": part.name, "rank": source.rank, "outcome": str(part.outcome), "leads": index == lead}
        yield Finding("parts", f"{who}: {said}", Grade.MEASURED, False, data | {"agrees": theirs == mine})


def _unrefuted(parts: Sequence[Inspection], lead: int) -> Iterator[Finding]:
    """What leads, but for a cause ruled out there by traps one of which is broken in another part."""
    broken = {f.data["trap"] for part in parts for f in part.of("rejudge") if f.data.get("violations")}
    for finding in parts[lead].findings:
        if finding.subject != "ruled_out" or not broken & set(finding.data.get("traps", ())):
            yield finding


def _faulting_block(processes: Processes, lead: int, first_of: Inspection) -> Iterator[Finding]:
    """A core dump beside a dump of the same process: its block against the row of the part that leads, else of any
    that names one. The first that has both. Nothing of another process stands under the verdict of the one that
    leads; each part keeps its own."""
    if first_of.of("faulting_block"):
        return
    told = processes.told
    says = first_of.outcome is Outcome.ERROR or faulting_block.named_row(told[lead].incident) is not None
    for index, part in enumerate(told):
        for fault in part.incident.faults:
            if says and not processes.is_of(fault, index, lead):
                continue
            same = [told[n].incident for n in (lead, *range(len(told))) if processes.is_of(fault, index, n)]
            row = next((found for incident in same if (found := faulting_block.named_row(incident)) is not None), None)
            if compared := list(faulting_block.compared([fault], row)):
                yield from compared
                return


def _signature(part: Inspection) -> str | None:
    return next((finding.text for finding in part.of("signature")), None)


def _issue(part: Inspection) -> str | None:
    return next((str(finding.data["id"]) for finding in part.of("known_issues")), None)


def _timeline(moments: Sequence[Moment]) -> Iterator[Finding]:
    """One finding; `moments` are the last _MOMENTS, seconds counted from the first that has a time."""
    if not moments:
        return
    timed = [moment.time for moment in moments if moment.time is not None]
    sources = len({moment.part for moment in moments})
    span = f" over {max(timed) - min(timed):.3f} s" if timed else ""
    text = f"{len(moments)} moments{span} from {sources} file{'s' if sources > 1 else ''}"
    rows = [
        {
            "time": moment.time,
            "after": None if moment.time is None else round(moment.time - min(timed), 3),
            "step": moment.step,
            "part": moment.part,
            "kind": moment.kind,
            "text": moment.text,
        }
        for moment in moments[-_MOMENTS:]
    ]
    data = {"moments": rows, "left_out": max(len(moments) - _MOMENTS, 0)}
    yield Finding("timeline", text, Grade.MEASURED, False, data)


def _notes(case: Case) -> Iterator[Finding]:
    left = set(case.unread)
    for grade, text in case.notes:
        unread = {"unread": True} if text in left else {}
        yield Finding("provenance", text, grade, False, {"note": True} | unread)
