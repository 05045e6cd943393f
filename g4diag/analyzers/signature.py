"""The crash signature of the violation the verdict names, and those of the others."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.causes import headline
from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.judging import judge
from g4diag.analyzers.recorded_violations import recorded, told
from g4diag.model import Finding, Grade, Incident
from g4diag.signature import signature

_OTHERS = 8


def analyze(incident: Incident) -> Iterator[Finding]:
    """At most one finding. Where nothing can be judged again, that of the first violation on record."""
    judgement = judge(incident)
    first = headline(incident)
    violations = [hit.violation for hit in judgement.hits]
    if first is None and not judgement.checked:
        violations = list(recorded(incident))
    if not violations:
        return
    named = signature(first.violation if first else violations[0])
    others = [other for other in dict.fromkeys(map(signature, violations)) if other != named]
    data = {"signature": named, "others": others[:_OTHERS], "recorded": first is None}
    as_told = first is not None or told(incident)[:1] == tuple(violations[:1])
    yield Finding("signature", named, Grade.MEASURED if as_told else Grade.DERIVED, False, data, "signature")


ANALYZER = Analyzer("signature", "Which crash is this, whatever the run, the machine and the pool sizes?", analyze)
