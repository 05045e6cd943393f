"""Several files as one story: the findings of the part that leads, what the others say to it, and one timeline."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from g4diag.analyzers import faulting_block
from g4diag.analyzers.leading import follows, leading, outcome_of, told_something
from g4diag.dump.case import Case, Part
from g4diag.dump.server_log import ARMED
from g4diag.dump.timeline import Moment
from g4diag.model import Finding, Grade, Incident, Inspection, KernelFault, Outcome

_MOMENTS, _FEW = 200, 6

Inspect = Callable[[Incident, str], Inspection]


def inspect_case(case: Case, name: str, inspect: Inspect) -> Inspection:
    """The part that tells the most leads, of several that name an error the first in time."""
    parts = tuple(inspect(part.incident, part.name) for part in case.parts)
    lead = leading(case.parts, parts)
    findings = (
        *_of_parts(parts, case.parts, lead),
        *_processes(case.parts),
        *_faulting_block(case.parts, lead, parts[lead]),
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


def _processes(told: Sequence[Part]) -> Iterator[Finding]:
    """One line where the parts name processes that have nothing to do with each other."""
    groups: list[tuple[set[int], list[str]]] = []
    for part in told:
        pids = _pids(part)
        if not pids:
            continue
        same = [group for group in groups if group[0] & pids]
        groups = [group for group in groups if group not in same]
        groups.append((pids.union(*(group[0] for group in same)), [n for g in same for n in g[1]] + [part.name]))
    if len(groups) < 2:
        return
    said = "; ".join(f"pid {_few(sorted(pids))} ({_few(names)})" for pids, names in groups[:_FEW])
    said += f" and {len(groups) - _FEW} more" if len(groups) > _FEW else ""
    data = {"pids": [sorted(pids) for pids, _ in groups]}
    yield Finding("parts", f"these files are of {len(groups)} processes: {said}", Grade.MEASURED, False, data)


def _few(items: Sequence[object]) -> str:
    more = f" and {len(items) - _FEW} more" if len(items) > _FEW else ""
    return ", ".join(map(str, items[:_FEW])) + more


def _pids(part: Part) -> set[int]:
    """The processes that a part says it is of: one, or of a log all that were armed."""
    incident, pid = part.incident, part.incident.context.get("pid")
    if incident.origin == "cuda-coredump":
        return _named_pid(part.name)
    armed = [found[2] for event in incident.log if event.kind == "armed" and (found := ARMED.search(event.text))]
    return {*([pid] if type(pid) is int else []), *map(int, armed)}


def _named_pid(name: str) -> set[int]:
    """A core dump's, by its name `core.PID`."""
    found = re.search(r"\.(\d{1,9})$", name)
    return {int(found[1])} if found else set()


def _faulting_block(told: Sequence[Part], lead: int, first_of: Inspection) -> Iterator[Finding]:
    """A core dump beside a dump of the same process: its block against the row of the part that leads, else of any
    that names one. The first that has both. Nothing of another process stands under the verdict of the one that
    leads; each part keeps its own."""
    if first_of.of("faulting_block"):
        return
    first = told[lead].incident
    says = first_of.outcome is Outcome.ERROR or faulting_block.named_row(first) is not None
    for fault in [fault for part in told for fault in part.incident.faults]:
        if says and not _is_of(fault, first):
            continue
        same = [part.incident for part in (told[lead], *told) if _is_of(fault, part.incident)]
        row = next((found for incident in same if (found := faulting_block.named_row(incident)) is not None), None)
        if compared := list(faulting_block.compared([fault], row)):
            yield from compared
            return


def _is_of(fault: KernelFault, incident: Incident) -> bool:
    """In one file, or both tell their process, and it is the same. A core dump does by its name, `core.PID`."""
    return fault in incident.faults or incident.context.get("pid") in [*_named_pid(fault.source)]


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
