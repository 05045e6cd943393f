"""Several files as one inspection: the lead part's findings, what the others say to it, and one timeline."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from g4diag.analyzers import faulting_block
from g4diag.dump.case import Case, Part
from g4diag.dump.timeline import Moment
from g4diag.model import Finding, Grade, Incident, Inspection, KernelFault, Outcome

_MOMENTS = 200

Inspect = Callable[[Incident, str], Inspection]


def inspect_case(case: Case, name: str, inspect: Inspect) -> Inspection:
    """The worst part leads: a defect before what could not be judged, that before a clean one."""
    parts = tuple(inspect(part.incident, part.name) for part in case.parts)
    lead = min(range(len(parts)), key=lambda index: _rank(parts[index]))
    findings = (
        *_of_parts(parts, case.parts, lead),
        *_faulting_block(case.parts, lead, parts[lead]),
        *_timeline(case.timeline()),
        *_notes(case),
    )
    outcome = _outcome(case, parts)
    return replace(parts[lead], name=name, outcome=outcome, findings=(*parts[lead].findings, *findings), parts=parts)


def _rank(part: Inspection) -> int:
    """A ring or a log that holds nothing to judge does not go before a dump that was judged."""
    if part.outcome is Outcome.DEFECT:
        # A wrong entry says more than a wrong swap or call, and the nearest meaning comes of an entry.
        return 0 if part.of("nearest_meaning") else 1
    return 2 if part.outcome is Outcome.INCONCLUSIVE and _judgeable(part) else 3 if _judgeable(part) else 4


def _judgeable(part: Inspection) -> bool:
    return any(finding.data.get("views") for finding in part.of("rejudge"))


def _outcome(case: Case, parts: Sequence[Inspection]) -> Outcome:
    """A defect anywhere is one; clean needs a clean part, no part that failed to be judged, and no file left unread."""
    if any(part.outcome is Outcome.DEFECT for part in parts):
        return Outcome.DEFECT
    judged = [part.outcome for part in parts if _judgeable(part)]
    clean = bool(judged) and case.is_whole and all(outcome is Outcome.CLEAN for outcome in judged)
    return Outcome.CLEAN if clean else Outcome.INCONCLUSIVE


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
        elif theirs is not None and theirs == mine:
            said = f"agrees: {theirs}"
        elif theirs is not None and _issue(part) is not None and _issue(part) == _issue(parts[lead]):
            said = f"agrees on {_issue(part)}, by another sign of it: {theirs}"
        elif theirs is not None:
            said = f"says otherwise: {theirs}"
        else:
            said = str(part.outcome) if _judgeable(part) else f"nothing to judge in it ({part.origin})"
        data = {"name": part.name, "rank": source.rank, "outcome": str(part.outcome), "leads": index == lead}
        yield Finding("parts", f"{who}: {said}", Grade.MEASURED, False, data | {"agrees": theirs == mine})


def _faulting_block(told: Sequence[Part], lead: int, leading: Inspection) -> Iterator[Finding]:
    """A core dump beside a dump of the same process: its block against the row of the part that leads, else of any
    that names one. The first that has both."""
    if leading.of("faulting_block"):
        return
    for fault in [fault for part in told for fault in part.incident.faults]:
        same = [part.incident for part in (told[lead], *told) if _is_of(fault, part.incident)]
        row = next((found for incident in same if (found := faulting_block.named_row(incident)) is not None), None)
        if compared := list(faulting_block.compared([fault], row)):
            yield from compared
            return


def _is_of(fault: KernelFault, incident: Incident) -> bool:
    """In one file, or both tell their process, and it is the same. A core dump does by its name, `core.PID`."""
    named, pid = re.search(r"\.(\d{1,9})$", fault.source), incident.context.get("pid")
    return fault in incident.faults or (named is not None and int(named[1]) == pid)


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
    for grade, text in case.notes:
        yield Finding("provenance", text, grade, False, {"note": True})
