"""Every trap of today over every view of the file, and what the file's own writer had said."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.judging import Judgement, TrapRow, judge
from g4diag.model import Finding, Grade, Incident


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding a trap that has something to judge here, one that counts the others, then one where the recorded
    violations and today's differ by trap."""
    judgement = judge(incident)
    for row in judgement.rows:
        if not (row.views or row.error):
            continue
        data = {"trap": row.name, "claim": row.claim, "views": row.views, "violations": row.violations}
        data |= {"error": row.error, "judged": row.judged, "needs": row.needs}
        yield Finding("rejudge", f"{row.name}: {_text(row)}", Grade.MEASURED, row.violations > 0, data, "trap")
    if idle := [row.name for row in judgement.rows if not (row.views or row.error)]:
        data = {"traps": idle, "count": len(idle)}
        text = f"{len(idle)} more checks found nothing of theirs in this file"
        if len(idle) == len(judgement.rows):
            text = f"none of the {len(idle)} checks could run: this file holds nothing that they check"
        yield Finding("rejudge", text, Grade.MEASURED, False, data, "idle")
    yield from _disagreement(incident, judgement)


def _text(row: TrapRow) -> str:
    if row.error:
        return f"could not judge: {row.error}"
    if row.needs:
        return f"could not be judged in this file: needs {row.needs}"
    return f"{row.violations} broken in {row.judged} views" + f" of {row.views}" * (row.judged < row.views)


def _disagreement(incident: Incident, judgement: Judgement) -> Iterator[Finding]:
    recorded = {violation.trap for violation in incident.violations}
    judged = {row.name: row.judged for row in judgement.rows if row.judged}
    today = {hit.violation.trap for hit in judgement.hits}
    for trap in sorted(recorded - today):
        # Whether the view that broke it is among them, nobody knows.
        views = judged.get(trap, 0)
        held = f"it holds in the {views} views" if views > 1 else "it holds in the one view"
        again = f"judged again, {held} of this file" if views else "this file holds nothing to judge it by"
        text = f"{trap} was recorded as broken when the file was written; {again}"
        data = {"trap": trap, "disagrees": "cleared" if views else "not judged", "judged": views}
        yield Finding("rejudge", text, Grade.MEASURED, False, data, "disagrees")
    for trap in sorted(today - recorded) if incident.violations else ():
        text = f"{trap} was not recorded as broken when the file was written; judged again, it is"
        yield Finding("rejudge", text, Grade.MEASURED, False, {"trap": trap, "disagrees": "new"}, "disagrees")


ANALYZER = Analyzer("rejudge", "Which claims hold by today's traps?", analyze)
