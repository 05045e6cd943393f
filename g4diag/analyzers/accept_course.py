"""Accept length over the log, with load and pools beside it: a collapse needs no error line to be seen.

The suspects are known bugs of this symptom that the server's facts do not rule out; they are guesses.
"""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.issues import known_issues
from g4diag.analyzers.log_words import told, words
from g4diag.logs.accept_length import Course, sparkline
from g4diag.model import Finding, Grade, Incident

_SUSPECTS = (
    *("trtllm-mha-swa", "trtllm-mha-clamp", "frozen-draft-fa", "eagle-own-pool", "xqa-strided-query"),
    *("other-backends-swa-table", "frozen-draft-amx"),
)
_SHOWN, _POINTS = 4, 512
_KEYS = ("attention", "algorithm", "draft", "model", "windows", "drafts_on")


def analyze(incident: Incident) -> Iterator[Finding]:
    """For each process whose accept length collapsed or never rose: the course, and the suspects."""
    courses = [course for course in told(incident).courses if course.kind != "steady"] if incident.events else []
    for course in courses[:_SHOWN]:
        yield Finding("accept_course", _sentence(course), Grade.MEASURED, False, _data(course), "course")
    if courses and (names := _suspects(incident)):
        text = f"suspects, none of them shown by this log: {', '.join(names)}"
        yield Finding("accept_course", text, Grade.GUESS, False, {"suspects": names})


def _sentence(course: Course) -> str:
    lengths = [batch.accept for batch in course.samples]
    who = f"{course.rank}: " if course.rank else ""
    text = f"{who}accept length {lengths[0]:.2f} to {lengths[-1]:.2f} {sparkline(lengths, 1.0, max(lengths))}"
    for name, label in (("swa_use", "SWA use"), ("full_use", "full use")):
        values = [getattr(batch, name) for batch in course.samples]
        if min(values) >= 0:
            text += f"; {label} {values[0]:.2f} to {values[-1]:.2f} {sparkline(values, 0.0, 1.0)}"
    loads = [float(batch.requests) for batch in course.samples]
    if min(loads) >= 0:
        text += f"; running requests {loads[0]:.0f} to {loads[-1]:.0f} {sparkline(loads, 0.0, max(loads))}"
    return text


def _suspects(incident: Incident) -> list[str]:
    """Known bugs of this symptom that no told fact speaks against."""
    facts, by_id = words(incident), {issue.id: issue for issue in known_issues()}
    found = []
    for name in _SUSPECTS:
        asked = by_id[name].flags if name in by_id else None
        if asked is not None and all(not facts.get(key) or facts[key] & asked[key] for key in asked if key in _KEYS):
            found.append(name)
    return found


def _data(course: Course) -> dict[str, object]:
    step = max(1, len(course.samples) // _POINTS)
    samples = course.samples[::step]
    return {
        "process": course.process,
        "rank": course.rank,
        "kind": course.kind,
        "before": course.before,
        "after": course.after,
        "with_load": course.load,
        "with_swa_use": course.swa,
        "points": {
            "line": [batch.line for batch in samples],
            "time": [batch.time for batch in samples],
            "accept": [batch.accept for batch in samples],
            "swa_use": [batch.swa_use for batch in samples],
            "full_use": [batch.full_use for batch in samples],
            "requests": [batch.requests for batch in samples],
        },
    }


ANALYZER = Analyzer("accept_course", "Does the accept length hold?", analyze)
