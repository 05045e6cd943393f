"""Leak arithmetic: of every audit in the log, what each pool is over or short by, in slots and in pages."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.log_words import told
from g4diag.logs.leaks import Leak
from g4diag.model import Finding, Grade, Incident

_SHOWN = 8


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding a pool of an audit; equal ones of several ranks are one, with their ranks."""
    said: dict[str, tuple[Leak, list[str]]] = {}
    for audit, rows in told(incident).leaks if incident.events else ():
        for row in rows:
            said.setdefault(row.sentence(), (row, []))[1].append(audit.who)
    for text, (row, ranks) in list(said.items())[:_SHOWN]:
        names = [name for name in dict.fromkeys(ranks) if name]
        who = f" (on {', '.join(names)})" if names else ""
        premises = () if row.told or row.pages is None else ("every number printed is a multiple of the page size",)
        grade = Grade.DERIVED if premises else Grade.MEASURED
        yield Finding("pool_leak", f"{text}{who}", grade, bool(row.over), _data(row, names), "leak", premises)


def _data(row: Leak, ranks: list[str]) -> dict[str, object]:
    terms = ("total", "available", "evictable", "protected", "held", "uncached")
    return {
        "pool": row.sum.pool,
        **{term: getattr(row.sum, term) for term in terms},
        "over": row.over,
        "page_size": row.page_size,
        "pages": row.pages,
        "leaked": list(row.sum.leaked),
        "ranks": ranks,
    }


ANALYZER = Analyzer("pool_leak", "Do the pools' sums come out?", analyze)
