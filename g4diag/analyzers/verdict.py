"""The verdict of an incident: its line, then the nearest legal meaning of the bad value, then evidence, each graded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from g4diag.analyzers.causes import chain_of, headline
from g4diag.analyzers.conclusion import conclude
from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.cross_space import meaning_of, placed, sentence
from g4diag.analyzers.judging import Judged, Judgement, judge
from g4diag.model import AttentionRead, Finding, Grade, Incident, PoolSwap, Severity
from g4diag.verdict import BOUNDS_CLAIMS, before_the_first, numbers_of, out_of_bounds


def verdict_lines(incident: Incident) -> list[str]:
    """The verdict line, then `nearest meaning: ...` where one is known, then evidence as `<grade>: ...`.

    Re-judges with today's traps; a healthy incident gives one `HEALTHY: g4diag: ...` line."""
    return [finding.text if finding.data["line"] == "verdict" else _graded(finding) for finding in analyze(incident)]


def _graded(finding: Finding) -> str:
    prefix = "nearest meaning: " if finding.data["line"] == "nearest meaning" else ""
    return f"  {finding.grade}: {prefix}{finding.text}"


def analyze(incident: Incident) -> Iterator[Finding]:
    """The verdict first, then the first cause, the nearest meaning and evidence. `data["line"]` says which it is."""
    said = conclude(incident)
    data = {"line": "verdict", "outcome": str(said.outcome), **said.data}
    is_defect = said.outcome.is_defect
    first = headline(incident)
    if first is not None:
        data |= {"said": numbers_of(first.violation.summary), "before_the_first": before_the_first(first.violation)}
    yield Finding("verdict", said.first_line, said.grade, is_defect, data, said.kind, said.premises)
    if first is None:
        return
    yield from _cause(incident)
    if isinstance(first.view, AttentionRead) and first.violation.value is not None:
        yield _nearest(first.view, first.violation.row or 0, first.violation.column or 0, incident)
    yield from _evidence(first, judge(incident))


def _nearest(read: AttentionRead, row: int, column: int, incident: Incident) -> Finding:
    meaning = meaning_of(read, row, column, incident)
    data = {"line": "nearest meaning", **placed(meaning, read, row, column, incident)}
    return Finding("verdict", sentence(meaning), meaning.grade, False, data, kind="meaning")


def _cause(incident: Incident) -> Iterator[Finding]:
    """The chain, where the violation that leads has a cause or a consequence."""
    chain = chain_of(incident)
    if chain is None or not chain.then:
        return
    steps = "; then ".join(f"{hit.violation.trap}, since {why}" for hit, why in chain.then)
    traps = [chain.first.violation.trap, *(hit.violation.trap for hit, _ in chain.then)]
    text = f"first cause: {chain.first.violation.summary}; then {steps}"
    said = numbers_of(chain.first.violation.summary)
    data = {"line": "cause", "traps": traps, "links": list(chain.links), "said": said}
    premises = (f"{why}: {_in_common(link)}" for (_, why), link in zip(chain.then, chain.links, strict=True))
    yield Finding("verdict", text, Grade.DERIVED, False, data, "cause", tuple(premises))


def _in_common(link: dict[str, Any]) -> str:
    if link["by"] == "backend":
        return f"both are of {link['backend']}"
    if link["by"] == "read":
        return "both are of one read"
    more = f" and {link['left_out']} more" if link["left_out"] else ""
    return f"both are of {link['space']} {', '.join(map(str, link['ids']))}{more}"


def _evidence(first: Judged, judgement: Judgement) -> Iterator[Finding]:
    violation, view = first.violation, first.view
    if violation.checked and not isinstance(view, PoolSwap):
        # Other claims count what is wrong, whether or not the first of it is past the pool.
        how = "outside the bound" if violation.trap in BOUNDS_CLAIMS and out_of_bounds(violation) else "broken"
        what = judgement.counts.get(violation.trap) or getattr(view, "CHECKED", "ids of this call")
        text = f"{violation.count} of {violation.checked} {what} {'is' if violation.checked == 1 else 'are'} {how}"
        place = {"layer_id": violation.layer_id, "step": violation.step, "call": violation.phase}
        yield _told(text, "count", trap=violation.trap, count=violation.count, checked=violation.checked, **place)
    if isinstance(view, AttentionRead):
        yield from _table_evidence(view)
    rest = [hit for hit in judgement.hits if hit is not first]
    for trap in dict.fromkeys(hit.violation.trap for hit in rest if not isinstance(hit.view, PoolSwap)):
        same = [hit for hit in rest if hit.violation.trap == trap]
        warnings = sum(hit.violation.severity is Severity.WARNING for hit in same)
        how = f"in {len(same)} more" if trap == violation.trap else f"too, in {len(same)}"
        armed = f", {warnings} of them not fired yet" if warnings else ""
        text = f"{trap} is broken {how} view{'s' if len(same) > 1 else ''}{armed}"
        yield _told(text, "too", trap=trap, views=len(same), warnings=warnings)


def _told(text: str, kind: str, **data: object) -> Finding:
    return Finding("verdict", text, Grade.MEASURED, False, {"line": "evidence", **data}, kind)


def _table_evidence(read: AttentionRead) -> Iterator[Finding]:
    if read.table_space is not None and read.table_space is not read.expected_space:
        text = f"the backend handed its {read.table_space} table; the {read.pool.name} pool is addressed in "
        text += f"{read.expected_space}s"
        place = {"step": read.step, "layer_id": read.layer_id, "pool": read.pool.name}
        yield _told(text, "label", table=str(read.table_space), wants=str(read.expected_space), **place)
    if read.is_clamped:
        last = read.pool.num_pages - 1
        count, unit = int((read.live_BP() & (read.page_table_BP == last)).sum()), read.expected_space.unit
        text = f"the table was clamped, not mended: a changed copy was handed, {count} of its live ids are {last}, the "
        yield _told(f"{text}last {unit}", "clamped", step=read.step, layer_id=read.layer_id, count=count, last=last)


ANALYZER = Analyzer("verdict", "What went wrong first, where, and how far past the bound?", analyze)
