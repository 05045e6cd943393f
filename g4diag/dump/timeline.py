"""One order for what several files tell: by wall clock where a file ties its own clock to it, else by step.

A ring and a dump say what the wall clock and the monotonic one were at one moment; a log says local time without a
zone, which is taken as UTC and moved by whole quarters of an hour where a violation is in a log and in a ring.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from g4diag.model import Grade, Incident

_QUARTER, _NEAR = 900.0, 5.0  # seconds
_LOCAL = ("server-log", "flashinfer-dump", "sglang-dump")
_NAMED = 3
WALL, MONO, RANKS = "wall_ns", "mono_ns", "ranks"  # keys of Incident.context


@dataclass(frozen=True)
class Moment:
    """Something that happened. time: seconds since the epoch, None if no clock tells it. step: the scheduler's, None
    if not told. part: the name of the file or directory that tells it. kind: as LogEvent.kind or RingRecord.kind, or
    "dump", "step", "fault". clock_ns: of a recorder's record, its own monotonic time."""

    time: float | None
    part: str
    kind: str
    text: str
    step: int | None = None
    clock_ns: int | None = None


@dataclass(frozen=True)
class Told:
    """One part's moments. local: its times name no zone."""

    name: str
    moments: tuple[Moment, ...]
    local: bool = False


def clock_of(incident: Incident) -> tuple[int, int] | None:
    """(wall, monotonic) clock of one moment, ns; None where the file does not tie the two."""
    wall, mono = incident.context.get(WALL), incident.context.get(MONO)
    if type(wall) is int and type(mono) is int and wall > 0 and mono > 0:
        return wall, mono
    return None


def told_by(name: str, incident: Incident) -> Told:
    """Everything one incident says of when."""
    local = incident.origin in _LOCAL
    return Told(name, tuple(_moments(name, incident)), local)


def merged(parts: Sequence[Told]) -> tuple[tuple[Moment, ...], tuple[tuple[Grade, str], ...]]:
    """All moments in order: those with a time, then those without, by step. And what was assumed."""
    notes: list[tuple[Grade, str]] = []
    offset = _offset(parts)
    if offset:
        notes.append(
            (Grade.DERIVED, f"log times moved by {-offset / 3600:+g} h, so that its violations meet the recorder's")
        )
    moments = [_moved(moment, offset) if part.local else moment for part in parts for moment in part.moments]
    timed = sorted((m for m in moments if m.time is not None), key=lambda m: (m.time, _step(m)))
    rest = sorted((m for m in moments if m.time is None), key=_step)
    if rest and timed:
        names = list(dict.fromkeys(moment.part for moment in rest))
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        said = f"{', '.join(names[:_NAMED])}{more}: no time of day told; {len(rest)} moments stand last, by step"
        notes.append((Grade.DERIVED, said))
    elif rest:
        notes.append((Grade.DERIVED, "no time of day is told: the timeline is ordered by step"))
    return tuple(_once([*timed, *rest])), tuple(notes)


def _once(moments: Iterable[Moment]) -> Iterator[Moment]:
    """What two files tell of the same: records of a ring and of a post-mortem, lines of a log and of its tail."""
    teller: dict[tuple[object, ...], str] = {}
    for moment in moments:
        when = moment.clock_ns or moment.time
        key = when, moment.step, moment.kind, moment.text
        if when is None or teller.setdefault(key, moment.part) == moment.part:
            yield moment


def _moments(name: str, incident: Incident) -> Iterator[Moment]:
    clock, step = clock_of(incident), None
    for record in incident.ring:
        # A mark that names no step fell into the one recorded before it.
        step = record.step if record.step >= 0 else step
        time = None if clock is None else (clock[0] + record.time_ns - clock[1]) / 1e9
        text = f"{record.mode}, {record.batch} requests" if record.kind == "step" else record.text
        yield Moment(time, name, record.kind, text, step, record.time_ns)
    for event in incident.log:
        text = f"{event.text} ({event.where})" if event.where else event.text
        yield Moment(event.time, name, event.kind, text)
    # A dump is written when the violation is found, or at the end of that step.
    written = None if clock is None or incident.origin != "g4diag" else clock[0] / 1e9
    for violation in incident.violations:
        yield Moment(written, name, "dump", f"{violation.trap}: {violation.summary}", violation.step)
    for fault in incident.faults:
        where = f" block {fault.block}" if fault.block else ""
        yield Moment(None, name, "fault", f"{fault.exception} in {fault.kernel}{where}".strip())


def _offset(parts: Sequence[Told]) -> float:
    """Seconds by which local times are ahead of the wall clock; 0 where nothing tells."""
    logs = [m.time for part in parts if part.local for m in part.moments if m.kind == "violation" and m.time]
    rings = [m.time for part in parts if not part.local for m in part.moments if m.kind == "violation" and m.time]
    if not logs or not rings:
        return 0.0
    ahead = min(logs) - min(rings)
    rounded = round(ahead / _QUARTER) * _QUARTER
    return rounded if abs(ahead - rounded) <= _NEAR and abs(rounded) <= 15 * 3600 else 0.0


def _moved(moment: Moment, offset: float) -> Moment:
    return moment if moment.time is None else replace(moment, time=moment.time - offset)


def _step(moment: Moment) -> tuple[int, int]:
    """To sort by: what a recorder tells before its first step comes first, what has no step at all last."""
    if moment.step is None:
        return (-1 if moment.clock_ns is not None else 1 << 62), 0
    return moment.step, moment.clock_ns or 1 << 62
