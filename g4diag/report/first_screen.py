"""The first screen of an inspection: what broke, where, whose fault, how sure, the cure, and what to type next.

Puts what the analyzers found into a fixed order and plain words; works out nothing of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from g4diag.model import SKIPPED, Finding, Grade, Inspection, Outcome

_CONTEXT = re.compile(r" \(([^()]*)\)$")
_OTHER = {"full page": "SWA page", "SWA page": "full page", "full slot": "SWA slot", "SWA slot": "full slot"}
_POOL = {"full page": "full-pool page", "SWA page": "SWA-pool page", "full slot": "full-pool slot"}
_POOL |= {"SWA slot": "SWA-pool slot"}
_SURE = {
    Outcome.ERROR: "measured: checked again here, from what this file holds",
    Outcome.LIKELY: "likely: recorded or logged when it happened, and nothing here to check it by",
    Outcome.LEAK: "derived: by the sums that the log prints",
    Outcome.HARDWARE: "derived: by what the driver or CUDA says",
    Outcome.CRASH: "only the crash is told; its cause is not in this file",
    Outcome.HEALTHY: "measured: all that this file holds was checked",
    Outcome.INCONCLUSIVE: "nothing is proved either way",
}
UNREADABLE = "UNREADABLE"
NEEDS_THE_STACK = "runs sglang itself, some 10 GB: pip install '.[stack]' in a checkout of g4diag"
_RAISED = "derived: the traceback ends where Python raised it; what led there is not in this file"
_NOT_TOLD = {
    "fault": "not told: nothing in this file says whose it is",
    "cure": "none: nothing is proved to be broken",
    "next": "none: no command of g4diag's would tell more",
}
_DO_OVER = (Outcome.ERROR, Outcome.LIKELY, Outcome.LEAK, Outcome.CRASH)


@dataclass(frozen=True)
class FirstScreen:
    """line: the verdict, to grep for, without its context. rows: (label, text) in the order in which a person asks."""

    line: str
    rows: tuple[tuple[str, str], ...]


def first_screen(inspection: Inspection) -> FirstScreen:
    """Of one file, or of several by the one that leads."""
    verdict = next(iter(inspection.of("verdict")), None)
    if verdict is None:
        return FirstScreen(f"{inspection.outcome.upper()}: g4diag: {inspection.name}", ())
    place = _CONTEXT.search(verdict.text) if verdict.kind == "broken" else None
    line = verdict.text[: place.start()] if place else verdict.text
    rows = (
        ("where", _where(inspection, verdict, place[1] if place else "")),
        ("fault", _fault(inspection, verdict)),
        ("sure", _sure(inspection, verdict)),
        ("cure", _cure(inspection)),
        ("next", next_step(inspection)),
        ("also", _also(inspection)),
    )
    told = ((label, text or _why_not(label, inspection, verdict)) for label, text in rows)
    return FirstScreen(line, tuple((label, text) for label, text in told if text))


def _why_not(label: str, inspection: Inspection, verdict: Finding) -> str:
    """What stands in a row that nothing fills: a reader cannot tell a gap from a fault of ours. A healthy file needs
    none."""
    if inspection.outcome is Outcome.HEALTHY:
        return ""
    if label == "where":
        return _call(inspection) or "not told: this file names no layer, no row and no line of code"
    if inspection.outcome is Outcome.HARDWARE:
        return {"fault": "the GPU, its memory or its bus", "cure": "none in software"}.get(
            label, _NOT_TOLD.get(label, "")
        )
    if label == "fault" and verdict.kind == "broken":
        return "as the first line says; nothing here narrows it further"
    return _NOT_TOLD.get(label, "")


def _call(inspection: Inspection) -> str:
    """The allocator's call that a broken claim is about: it belongs to no layer."""
    calls = (f.data["call"] for f in inspection.of("verdict") if f.data.get("call") and f.data.get("layer_id") is None)
    return next((f"no layer: a call of the allocator, {call}" for call in calls), "")


def next_step(inspection: Inspection) -> str:
    """The command; what it is for, or what it needs where that is more than reading needs."""
    for finding in inspection.of("next_command")[:1]:
        needs = finding.text.startswith(("g4diag repro", "g4diag minimize", "g4diag fuzz"))
        return f"{finding.text} ({NEEDS_THE_STACK if needs else finding.data['why']})"
    return ""


def _also(inspection: Inspection) -> str:
    """That other files tell of something else: what stands above is not about those."""
    others = [finding for finding in inspection.of("parts") if ": says otherwise: " in finding.text]
    if not others:
        return ""
    of = len(inspection.parts)
    return f"{len(others)} of {of} files tell of something else: `g4diag inspect --short` has a line for each"


def short_rows(inspection: Inspection) -> Iterator[tuple[str, str, str]]:
    """One row a file, for scripts: first word, name, known issue or the verdict; of one that could not be read, why."""
    for part in inspection.parts or (inspection,):
        issues = [f for f in part.of("known_issues") if f.grade is not Grade.GUESS]
        said = str(issues[0].data["id"]) if issues else first_screen(part).line.partition(": g4diag: ")[2]
        yield part.outcome.upper(), part.name, said
    for finding in inspection.of("provenance"):
        if finding.data.get("unread"):
            name, _, why = finding.text.partition(": not read: ")
            yield UNREADABLE, name, why
        elif finding.text.startswith(SKIPPED):
            yield UNREADABLE, finding.text.removeprefix(SKIPPED), "nothing that g4diag reads"


def _where(inspection: Inspection, verdict: Finding, context: str) -> str:
    """Layer, row and request; for a log the line that it surfaced at, ranks and time."""
    place = verdict.data if verdict.data.get("layer_id") is not None else None
    place = place or next((f.data for f in inspection.of("on_record") if f.data.get("row") is not None), None)
    parts = [_layer(place)] if place else []
    number, crashes, is_told = _crash(inspection, verdict)
    story = _stories(inspection)[number - 1] if crashes else None
    if story and not place:
        parts += [] if is_told else [f"crash {number} of {crashes}"]
        parts += [f"surfaced at {story['surfaced']}"] if story["surfaced"] else []
        parts += [_ranks(story)] if _ranks(story) else []
        parts += [str(story["at"])] if story["time"] is not None else []
        parts.append(str(story["source"]))
    parts += [context] if context else []
    if inspection.parts:
        leads = next((f.text.partition(": leads")[0] for f in inspection.of("parts") if ": leads" in f.text), "")
        parts += [f"in {leads}"] if leads else []
    return ", ".join(parts)


def _stories(inspection: Inspection) -> list[dict[str, Any]]:
    return [finding.data for finding in inspection.of("log_story") if "ranks" in finding.data]


def _crash(inspection: Inspection, verdict: Finding) -> tuple[int, int, bool]:
    """(number of the crash that the verdict is of, how many a log tells, whether that is known). By the moment and the
    rank that the verdict names; one found by an audit of the pools where it is of a leak. The first where it names
    none."""
    stories = _stories(inspection)
    of_leak = inspection.outcome is Outcome.LEAK
    told = [
        number
        for number, story in enumerate(stories, start=1)
        if str(story["at"]) in verdict.text
        and story["rank"] in verdict.text
        and (story["blame"] == "audit" or not of_leak)
    ]
    return (told[0] if told else 1), len(stories), bool(told) or len(stories) == 1


def _layer(place: dict[str, Any]) -> str:
    number = place["layer_id"]
    layer = f"layer {number}" if number is not None and number >= 0 else "a layer of unknown number"
    row = f", row {place['row']}" if place.get("row") is not None else ""
    return layer + row


def _ranks(story: dict[str, Any]) -> str:
    ranks = [rank for rank in story["ranks"] if rank]
    if len(ranks) > 1:
        return f"{ranks[0]} first of {len(ranks)} ranks"
    return ranks[0] if ranks else str(story["rank"])


def _fault(inspection: Inspection, verdict: Finding) -> str:
    """Whose fault, as far as it is known: the index space in words, the kernel, or how the line is to be read."""
    for finding in inspection.of("verdict"):
        if finding.data.get("line") == "nearest meaning":
            return numbering(finding, verdict)
    for subject in ("index_space", "on_record"):
        if found := [f for f in inspection.of(subject) if f.grade is Grade.DERIVED]:
            return found[0].text
    for finding in inspection.of("verdict"):
        if finding.data.get("line") == "cause":
            return finding.text
    if inspection.outcome in (Outcome.HARDWARE, Outcome.HEALTHY):
        return ""
    kernels = [f for f in inspection.of("log_story") if "kernel" in f.data]
    told = [f.text for f in (*kernels, *inspection.of("misattribution"), *inspection.of("faulting_block"))]
    number, crashes, _ = _crash(inspection, verdict)
    # Of several crashes each says which one it is of.
    of_it = [text for text in told if crashes < 2 or text.startswith(f"crash {number} of ")]
    return next(iter(of_it), "")


def numbering(meaning: Finding, verdict: Finding) -> str:
    """What a wrong id is, in words of index spaces: right page and wrong numbering, clamped, or what it is."""
    data, expected = meaning.data, verdict.data.get("expected")
    space = data["space"]
    unit, value, other = space.split()[1], data["value"], data["other"]
    if data["is_clamp"]:
        belongs = f"; {_OTHER[space]} {expected} belongs there" if expected and expected > 0 else ""
        return f"clamped, not translated: {value} is the last {unit} of the pool{belongs}"
    if data["belongs"] and data["past"]:
        return f"right {unit}, pool too small: {value} belongs there, past the end of the pool that is read"
    if data["is_own"] and other is not None and other == expected and _same_tokens(data):
        needed = f"this layer needed {_OTHER[space]} {other}"
        return f"right {unit}, wrong numbering: {value} is its {_POOL[space]} id; {needed}"
    return meaning.text


def _same_tokens(data: dict[str, Any]) -> bool:
    """Whether the page's owner has the tokens there that the entry serves."""
    first, last = data["serves"]
    return data["owner"] is not None and data["owner"][1] <= last and data["owner"][2] >= first


def _sure(inspection: Inspection, verdict: Finding) -> str:
    text = _RAISED if verdict.kind == "raised" else _SURE[inspection.outcome]
    for finding in inspection.of("known_issues")[:1]:
        is_guess = finding.grade is Grade.GUESS
        text += f"; {'a guess: it may be' if is_guess else 'it matches'} known issue {finding.data['id']}"
    return text


def _cure(inspection: Inspection) -> str:
    for finding in inspection.of("cure")[:1]:
        cure = finding.text.removeprefix("cure: ")
        return f"{cure} (if it is that issue)" if finding.grade is Grade.GUESS else cure
    if inspection.outcome in _DO_OVER and not inspection.of("known_issues"):
        return "none known: it matches no known issue"
    return ""
