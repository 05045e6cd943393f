"""Which of several files tells the first cause: the surest rung first, then by time, then by what can cause what."""

from __future__ import annotations

from collections.abc import Sequence

from g4diag.analyzers.causes import CAUSES
from g4diag.analyzers.processes import Processes
from g4diag.dump.case import Case, Part
from g4diag.dump.timeline import clock_of
from g4diag.model import Inspection, Outcome

_ORDER = list(Outcome)
_WHY = {(cause.trap, effect): cause.why for cause in CAUSES for effect in cause.effects}


def leading(processes: Processes, parts: Sequence[Inspection]) -> int:
    """The index of the part that leads."""
    told = processes.told
    best = min(map(_rank, parts))
    first = [index for index, part in enumerate(parts) if _rank(part) == best]
    times = [time_of(told[index]) for index in first]
    if all(time is not None for time in times):
        return min(first, key=lambda index: time_of(told[index]) or 0.0)
    effects = {effect for index in first for (trap, effect) in _WHY if trap == _trap(parts[index])}
    named = [index for index in first if type(told[index].incident.context.get("pid")) is int]
    if not named or not all(processes.same(named[0], index) for index in named):
        effects = set()  # of several processes, or of nobody knows which
    # Nothing says when. What another of them can cause comes after it; a wrong entry says more than a wrong swap.
    return min(first, key=lambda index: (_trap(parts[index]) in effects, not parts[index].of("nearest_meaning")))


def _rank(part: Inspection) -> tuple[float, bool]:
    """A ring or a log that holds nothing to judge does not go before a dump that was judged."""
    place = float(_ORDER.index(part.outcome))
    if part.outcome is Outcome.INCONCLUSIVE and told_something(part):
        place -= 1.5  # before a healthy one
    return place, part.outcome is Outcome.ERROR and _first_line(part).startswith("WARNING")


def told_something(part: Inspection) -> bool:
    """Whether there was something to judge, or a log told how its server fared."""
    return part.outcome is not Outcome.INCONCLUSIVE or any(f.data.get("views") for f in part.of("rejudge"))


def outcome_of(case: Case, parts: Sequence[Inspection]) -> Outcome:
    """The surest rung that names something; healthy needs a healthy part, none that failed to be judged, and no file
    left unread."""
    named = [part.outcome for part in parts if part.outcome.is_defect or part.outcome is Outcome.CRASH]
    if named:
        return min(named, key=_ORDER.index)
    judged = [part.outcome for part in parts if told_something(part)]
    healthy = bool(judged) and case.is_whole and all(outcome is Outcome.HEALTHY for outcome in judged)
    return Outcome.HEALTHY if healthy else Outcome.INCONCLUSIVE


def follows(told: Sequence[Part], parts: Sequence[Inspection], lead: int, index: int) -> str:
    """How the part follows from the one that leads: by its time, and by what can cause what; "" if neither tells."""
    why = _WHY.get((_trap(parts[lead]), _trap(parts[index])), "")
    first, then = time_of(told[lead]), time_of(told[index])
    later = f"{then - first:.3f} s later" if first is not None and then is not None and then > first else ""
    said = ", ".join(filter(None, (later, f"follows: {_trap(parts[index])}, since {why}" if why else "")))
    return said if why else f"{said}: {_trap(parts[index])}" if later else ""


def time_of(part: Part) -> float | None:
    """When a dump was written, seconds since the epoch; None where it does not say."""
    clock = clock_of(part.incident)
    return None if clock is None or part.incident.origin != "g4diag" else clock[0] / 1e9


def _trap(part: Inspection) -> str:
    return next((str(f.data.get("trap", "")) for f in part.of("verdict") if f.data.get("line") == "verdict"), "")


def _first_line(part: Inspection) -> str:
    return next((finding.text for finding in part.of("verdict")), "")
