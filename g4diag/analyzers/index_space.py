"""Which index space a bad table is really in, with the numbers behind every reading of it.

A winner is named only where it explains nearly all live entries and no other reading comes close. Where the file
holds no full-space table (the fork's dumps, a kernel logger's) the readings rest on the bound, the window and the
geometry alone: that is an inference, and is said to be one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.explanations import explanations, winner
from g4diag.analyzers.reading import Explanation
from g4diag.analyzers.tables import bad_reads
from g4diag.model import AttentionRead, Finding, Grade, Incident

_READS = 4
_NAMED = 3
_PREMISE_KNOWN = "a table is of one kind: what explains nearly all of its entries, and alone, is what it holds"
_PREMISE_INFERRED = "the ids that belong there are not in the file: the bound, the window and the page size alone tell"


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding for each of the first reads with bad entries, those past the end of a pool first."""
    for read, bad in bad_reads(incident)[:_READS]:
        ranked = explanations(read, incident)
        best = winner(ranked)
        known = read.expected_BP() is not None
        data = {
            "read": next(n for n, other in enumerate(incident.reads) if other is read),
            "step": read.step,
            "layer_id": read.layer_id,
            "winner": best.name if best else None,
            "inferred": not known,
            "bad_entries": int(bad.sum()),
            "hypotheses": [asdict(one) for one in ranked],
        }
        text, why = _sentence(read, ranked, best, known), (_PREMISE_KNOWN if known else _PREMISE_INFERRED,)
        yield Finding("index_space", text, Grade.DERIVED, False, data, "reading", why)


def _sentence(read: AttentionRead, ranked: tuple[Explanation, ...], best: Explanation | None, known: bool) -> str:
    table = f"the table of layer {read.layer_id}" if read.layer_id >= 0 else "the table"
    if best is None:
        tried = "; ".join(f"{one.text} {_share(one)}" for one in ranked[:_NAMED]) or "no reading explains an entry"
        alike = any(one.telling == 0 and one.share_of_bad == 1.0 for one in ranked[:_NAMED])
        why = " (the two numberings agree on every entry that is wrong)" if alike else ""
        return f"cannot tell what {table} holds{why}: {tried}"
    others = [one for one in ranked if one is not best and one.bad][: _NAMED - 1]
    second = f"; runner-up: {', '.join(f'{one.text} ({_share(one)})' for one in others)}" if others else ""
    if known:
        return f"best fit for {table}: {best.text} ({_share(best)} live entries{_telling(best)}){second}"
    because = f"; {best.because}" if best.because else ""
    return f"inferred best fit for {table}: {best.text} ({_share(best)} live entries{because}){second}"


def _telling(one: Explanation) -> str:
    """Where the reading and the right ids agree, nothing tells them apart."""
    if one.telling is None or one.telling == one.explained:
        return ""
    return f", on {one.telling} of which the right id is another one"


def _share(one: Explanation) -> str:
    return f"{one.explained} of {one.of}"


ANALYZER = Analyzer("index_space", "Is the bad table better read as ids of another kind?", analyze)
