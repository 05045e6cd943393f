"""Run today's traps over an incident: the one mechanism under every analyzer that speaks of violations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from g4diag.analyzers.once import once
from g4diag.discover import contributions
from g4diag.model import (
    Allocation,
    AttentionRead,
    FreeList,
    Incident,
    MappingUpdate,
    PoolSwap,
    PrefixMatch,
    Release,
    View,
    Violation,
)
from g4diag.traps.contract import Trap
from g4diag.verdict import precedence


@dataclass(frozen=True)
class Judged:
    """A violation and the view it was found in."""

    violation: Violation
    view: View


@dataclass(frozen=True)
class TrapRow:
    """What one trap made of the incident. views: those of its kind. judged: those that hold what its claim needs, or
    break it all the same. needs: what they lack where none could be judged. error: why it could not judge, None if
    it could."""

    name: str
    claim: str
    views: int
    violations: int
    error: str | None = None
    judged: int = 0
    needs: str = ""


@dataclass(frozen=True)
class Judgement:
    """hits: in the order of traps, then views. checked: entries, slots and pool edges that could be judged. counts: by
    trap, what its violations count where that is not what the view says."""

    hits: tuple[Judged, ...]
    rows: tuple[TrapRow, ...]
    checked: int
    counts: dict[str, str] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[TrapRow, ...]:
        """Traps that could not judge."""
        return tuple(row for row in self.rows if row.error)


@once
def judge(incident: Incident) -> Judgement:
    """Every trap of g4diag/traps that can run offline, on every view it judges. Never raises for a trap."""
    hits: list[Judged] = []
    rows: list[TrapRow] = []
    counts: dict[str, str] = {}
    for found in contributions("g4diag.traps", "TRAP"):
        if found.error is not None:
            rows.append(TrapRow(found.name, "", 0, 0, found.error))
        elif "offline" in found.value.runs:
            row, more = _run(found.value, incident)
            rows.append(row)
            hits.extend(more)
            counts[found.name] = found.value.counts
    return Judgement(tuple(hits), tuple(rows), sum(map(_size, incident.views())), counts)


def _run(trap: Trap, incident: Incident) -> tuple[TrapRow, list[Judged]]:
    views = [view for view in incident.views() if isinstance(view, trap.judges)]
    try:
        hits = [Judged(violation, view) for view in views for violation in trap.judge(view)]
        broken = {id(hit.view) for hit in hits}
        lacking = [needs for view in views if id(view) not in broken and (needs := trap.needs(view))]
    except MemoryError:
        raise
    except Exception as error:
        # One broken trap must not hide what the others see; its row makes a clean verdict impossible.
        return TrapRow(trap.name, trap.claim, len(views), 0, f"{type(error).__name__}: {error}"), []
    judged = len(views) - len(lacking)
    missing = "" if judged else next(iter(lacking), "")
    return TrapRow(trap.name, trap.claim, len(views), len(hits), judged=judged, needs=missing), hits


def _size(view: View) -> int:
    if isinstance(view, AttentionRead):
        return int(view.live_BP().sum())
    if isinstance(view, Allocation | Release):
        return len(view.slots_N)
    if isinstance(view, FreeList):
        return 0 if view.pool.free_pages_N is None else len(view.pool.free_pages_N)
    return len(view.full_slots_N) if isinstance(view, MappingUpdate | PrefixMatch) else 1


def lead(hits: Iterable[Judged]) -> Judged | None:
    """The one to put first: past the end of a pool before wrong but in range, both before their causes."""
    return min(hits, key=_rank, default=None)


def _rank(hit: Judged) -> tuple[bool, ...]:
    return (*precedence(hit.violation), isinstance(hit.view, PoolSwap))
