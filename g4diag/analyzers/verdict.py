"""The verdict of an incident: its line, then the nearest legal meaning of the bad value, then evidence, each graded."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.cross_space import meaning_of, sentence
from g4diag.analyzers.judging import Judged, Judgement, judge, lead
from g4diag.model import AttentionRead, Finding, Grade, Incident, PoolSwap, Severity
from g4diag.verdict import out_of_bounds, past_the_end, verdict_line

Graded = tuple[Grade, str]


def verdict_lines(incident: Incident) -> list[str]:
    """The verdict line, then `nearest meaning: ...` where one is known, then evidence as `<grade>: ...`.

    Re-judges with today's traps; a clean incident gives one `CLEAN: g4diag: ...` line."""
    return [finding.text if finding.data["line"] == "verdict" else _graded(finding) for finding in analyze(incident)]


def _graded(finding: Finding) -> str:
    prefix = "nearest meaning: " if finding.data["line"] == "nearest meaning" else ""
    return f"  {finding.grade}: {prefix}{finding.text}"


def analyze(incident: Incident) -> Iterator[Finding]:
    """The verdict first, then the nearest meaning, then evidence. `data["line"]` says which of the three it is."""
    judgement = judge(incident)
    first = lead(judgement.hits)
    if first is None:
        yield Finding("verdict", _clean_line(judgement), Grade.MEASURED, False, {"line": "verdict"})
        return
    data = {"line": "verdict", "trap": first.violation.trap, "past_the_end": past_the_end(first.violation)}
    yield Finding("verdict", verdict_line(first.violation), Grade.MEASURED, True, data)
    if isinstance(first.view, AttentionRead) and first.violation.value is not None:
        place = first.violation.row or 0, first.violation.column or 0
        meaning = meaning_of(first.view, *place, incident)
        yield Finding("verdict", sentence(meaning), meaning.grade, data={"line": "nearest meaning"})
    for grade, text in _evidence(first, judgement):
        yield Finding("verdict", text, grade, data={"line": "evidence"})


def _clean_line(judgement: Judgement) -> str:
    ran = sum(1 for row in judgement.rows if row.judged)
    if judgement.errors:
        return f"INCONCLUSIVE: g4diag: {len(judgement.errors)} of {len(judgement.rows)} traps could not judge"
    if not judgement.checked:
        return "INCONCLUSIVE: g4diag: nothing in this file can be judged"
    return f"CLEAN: g4diag: {judgement.checked} entries, {ran} of {len(judgement.rows)} traps apply, nothing broken"


def _evidence(first: Judged, judgement: Judgement) -> Iterator[Graded]:
    violation, view = first.violation, first.view
    if violation.checked and not isinstance(view, PoolSwap):
        how = "outside the bound" if out_of_bounds(violation) else "broken"
        what = getattr(view, "CHECKED", "ids of this call")
        yield Grade.MEASURED, f"{violation.count} of {violation.checked} {what} are {how}"
    if isinstance(view, AttentionRead):
        yield from _table_evidence(view)
    rest = [hit for hit in judgement.hits if hit is not first]
    for trap in dict.fromkeys(hit.violation.trap for hit in rest if not isinstance(hit.view, PoolSwap)):
        same = [hit for hit in rest if hit.violation.trap == trap]
        warnings = sum(hit.violation.severity is Severity.WARNING for hit in same)
        how = f"in {len(same)} more" if trap == violation.trap else f"too, in {len(same)}"
        armed = f", {warnings} of them not fired yet" if warnings else ""
        yield Grade.MEASURED, f"{trap} is broken {how} view{'s' if len(same) > 1 else ''}{armed}"
    if isinstance(view, AttentionRead):
        causes = dict.fromkeys(hit.violation.summary for hit in rest if isinstance(hit.view, PoolSwap))
        yield from ((Grade.DERIVED, f"cause: {summary}") for summary in list(causes)[:3])


def _table_evidence(read: AttentionRead) -> Iterator[Graded]:
    if read.table_space is not None and read.table_space is not read.expected_space:
        yield (
            Grade.MEASURED,
            f"the backend handed its {read.table_space} table; the {read.pool.name} pool is addressed in "
            f"{read.expected_space}s",
        )
    if read.is_clamped:
        yield Grade.MEASURED, "the table was clamped: ids past the end were moved onto the last page, not mended"


ANALYZER = Analyzer("verdict", "What went wrong first, where, and how far past the bound?", analyze)
