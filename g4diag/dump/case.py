"""Several files, or a directory of them, as one case: its parts, what was left out and why, and one timeline.

A recorder's ring goes with the dump of the same process. In a directory no link is followed, and nothing outside it is
opened, whatever a file in it says. One broken file is a note, not the end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from g4diag.dump import allowance, timeline
from g4diag.dump.api_dump import origin_of, read_calls
from g4diag.dump.reader import Kind, kind_of, read_dump, understood
from g4diag.dump.timeline import MONO, RANKS, WALL, Moment
from g4diag.errors import G4DiagError, UnsafeInputError, UsageError, VacuousError
from g4diag.model import SKIPPED, Grade, Incident

MAX_DEPTH, MAX_FILES, MAX_PARTS = 6, 4096, 256
Note = tuple[Grade, str]

_RANK_SAID = re.compile(r"\btp_rank=(\d{1,4})\b")
_RANK_NAMED = re.compile(r"(?:^|[/_.-])(?:tp|rank)[-_]?(\d{1,4})(?=[/_.-]|$)", re.IGNORECASE)
# What loggers leave beside the calls, and our own scratch; not worth a word.
_SILENT = re.compile(r"session\.jsonl|\..*\.tmp|.*\.arming\.json")
_SNAPSHOTS = "graph_flushes"
_NAMED = 6
_MISSING = "No such file or directory"
_NOTHING = "nothing in it is a dump, a ring, a log or another file that g4diag reads"


@dataclass(frozen=True)
class Part:
    """One file, or one process's directory of calls. name: relative to the directory that was given. rank: the
    tensor-parallel rank, None if not told."""

    name: str
    incident: Incident
    rank: int | None = None


@dataclass(frozen=True)
class Case:
    """parts: in the order given, files of a directory by name. notes: what was left out, and what was assumed.
    unread: those notes that tell of evidence, of a kind we know, that was left unread."""

    parts: tuple[Part, ...]
    notes: tuple[Note, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """No evidence of a kind we know was left unread."""
        return not self.unread

    def timeline(self) -> tuple[Moment, ...]:
        """Everything the parts tell, in one order; `notes` says where clocks could not be tied."""
        return self._merged[0]

    @cached_property
    def _merged(self) -> tuple[tuple[Moment, ...], tuple[Note, ...]]:
        return timeline.merged([timeline.told_by(part.name, part.incident) for part in self.parts])


@dataclass
class _Found:
    """Files and call directories on the way to parts. broken: of a kind we know, and why each was not read. empty: the
    same of those that hold nothing."""

    files: list[tuple[str, Path]] = field(default_factory=list)
    calls: dict[str, list[Path]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seen: int = 0
    left: list[str] = field(default_factory=list)
    broken: list[tuple[Path, str]] = field(default_factory=list)
    empty: list[tuple[Path, str]] = field(default_factory=list)

    def unread(self, name: str, why: str) -> None:
        self.note(name, why)
        self.left.append(self.notes[-1][1])

    def note(self, name: str, why: str) -> None:
        self.notes.append((Grade.MEASURED, f"{name}: {why}"))


def read_case(paths: Sequence[Path]) -> Case:
    """The case in these files and directories.

    Raises what `read_dump` does where a single file is given; of several, or of a directory: UnsafeInputError if none
    could be read, VacuousError if a directory holds nothing we know, UsageError if there is none of these paths; of
    several paths the error tells each with its own reason. One of several that is not there is told as one that could
    not be read."""
    if not paths:
        raise UsageError("wanted a file or a directory, found none")
    if len(paths) == 1 and not paths[0].is_dir():
        incident = read_dump(paths[0])
        return _concluded([Part(paths[0].name, incident)], _Found())
    found = _Found()
    if not any(path.exists() for path in paths):
        raise UsageError(_each(paths, found))
    for path in paths:
        if path.is_dir():
            _walk(path, path.name if len(paths) > 1 else "", path, found, 0)
        elif path.exists():
            found.files.append((path.name, path))
        else:
            found.unread(str(path), f"not read: {_MISSING}")
    parts = _read(found, given={path for path in paths if not path.is_dir()})
    if not parts:
        raise (UnsafeInputError if found.broken else VacuousError)(_each(paths, found))
    return _concluded(parts, found)


def _each(paths: Sequence[Path], found: _Found) -> str:
    """Why nothing was read of any of these paths, in one line."""
    told = [_why(path, found) for path in dict.fromkeys(paths)]
    more = f"; and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return "; ".join(told[:_NAMED]) + more


def _why(path: Path, found: _Found) -> str:
    if not path.exists():
        return f"{path}: {_MISSING}"
    if not path.is_dir():
        why = next((said for place, said in (*found.broken, *found.empty) if place == path), _NOTHING)
        return f"{path}: {why.removeprefix(f'{path.name}: ')}"
    broken = [said for place, said in found.broken if place.is_relative_to(path)]
    if not broken:
        return f"{path}: {_NOTHING}"
    return f"{path}: none of {len(broken)} files could be read; the first: {broken[0]}"


def _walk(folder: Path, name: str, root: Path, found: _Found, depth: int) -> None:
    """Files below `folder`; a directory that a logger wrote for one call is put with its siblings."""
    try:
        entries = sorted(_scan(folder, found), key=lambda entry: entry.name)
    except OSError as error:
        found.unread(name or folder.name, f"not read: {error.strerror}")
        return
    if origin_of(entry.name for entry in entries):
        parent = name.rpartition("/")[0] or (folder if folder == root else root).name
        found.calls.setdefault(parent, []).append(folder)
        if any(entry.name == _SNAPSHOTS for entry in entries):
            found.note(name or folder.name, "of its graph's replays the last one was read")
        return
    for entry in entries:
        child = f"{name}/{entry.name}".lstrip("/")
        if entry.is_symlink():
            found.note(child, "a link: not followed")
        elif entry.is_dir(follow_symlinks=False):
            if depth < MAX_DEPTH:
                _walk(Path(entry.path), child, root, found, depth + 1)
            else:
                found.unread(child, f"not read: more than {MAX_DEPTH} directories deep")
        elif not entry.is_file(follow_symlinks=False):
            found.note(child, "not a regular file: not opened")
        elif not _SILENT.fullmatch(entry.name):
            found.files.append((child, Path(entry.path)))


def _scan(folder: Path, found: _Found) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            found.seen += 1
            if found.seen > MAX_FILES:
                raise UnsafeInputError(f"{folder}: wanted at most {MAX_FILES} files and directories, found more")
            yield entry


def _read(found: _Found, given: set[Path]) -> list[Part]:
    """The parts; what was wrong with the other files is left in `found`."""
    parts: list[Part] = []
    for name, path in found.files:
        kind = Kind.UNKNOWN
        try:
            kind = kind_of(path)
            if kind is Kind.UNKNOWN and path not in given:
                found.skipped.append(name)
                continue
            with allowance.one_file():
                incident = read_dump(path)
        except VacuousError as error:
            found.note(name, str(error).removeprefix(f"{path}: "))
            found.empty.append((path, found.notes[-1][1]))
            continue
        except G4DiagError as error:
            said = str(error).removeprefix(f"{path}: ")
            if kind in (Kind.TEXT, Kind.JSON) and path not in given and not isinstance(error, allowance.SpentError):
                found.skipped.append(name)
            else:
                found.broken.append((path, f"{name}: {said}"))
                found.unread(name, f"not read: {said}")
            continue
        parts.append(Part(name, incident))
        if len(parts) >= MAX_PARTS:
            found.unread(name, f"files after this one were not read: wanted at most {MAX_PARTS}")
            break
    if found.skipped:
        more = f" and {len(found.skipped) - _NAMED} more" if len(found.skipped) > _NAMED else ""
        text = f"{SKIPPED}{', '.join(found.skipped[:_NAMED])}{more}"
        found.notes.append((Grade.MEASURED, text))
    for name, folders in found.calls.items():
        try:
            with understood(), allowance.one_file():
                dumps, notes = read_calls(folders)
        except G4DiagError as error:
            found.unread(name, f"not read: {error}")
            found.broken.append((folders[0], f"{name}: {error}"))
            continue
        parts += [Part(name if len(dumps) == 1 else f"{name} pid {dump.pid}", dump.incident) for dump in dumps]
        found.notes += notes
        found.left += [text for _, text in notes]
        found.broken += [(folders[0], text) for _, text in notes if not dumps]
    return parts


def _concluded(parts: list[Part], found: _Found) -> Case:
    """Rings put with their dumps, ranks told, and what the timeline had to assume."""
    parts, more = _with_rings(parts)
    case = Case(tuple(replace(part, rank=_rank(part)) for part in parts), (*found.notes, *more), tuple(found.left))
    return replace(case, notes=(*case.notes, *case._merged[1]))


def _with_rings(parts: list[Part]) -> tuple[list[Part], list[Note]]:
    rings = {id(part): part for part in parts if part.incident.origin == "g4diag-ring"}
    kept, notes, used = [], [], set()
    for part in parts:
        ring = None if id(part) in rings else _ring_of(part.incident, list(rings.values()))
        if ring is None:
            kept.append(part)
            continue
        used.add(id(ring))
        notes.append((Grade.DERIVED, f"{ring.name} is the recorder of the process that wrote {part.name}"))
        told = {key: ring.incident.context[key] for key in (WALL, MONO, RANKS) if key in ring.incident.context}
        context = told | part.incident.context
        records = {record.seq: record for record in (*part.incident.ring, *ring.incident.ring)}
        ordered = tuple(records[seq] for seq in sorted(records))
        kept.append(replace(part, incident=replace(part.incident, ring=ordered, context=context)))
    return [part for part in kept if id(part) not in used], notes


def _ring_of(incident: Incident, rings: Sequence[Part]) -> Part | None:
    """The ring of the same process: of its pid, which a later process or one of another node may have had too. So also
    begun before the dump's last record and of one mind with it where both hold that record; of these, one that does
    hold it, and the last one begun."""
    pid = incident.context.get("pid")
    same = [ring for ring in rings if ring.incident.context["pid"] == pid]
    if incident.origin != "g4diag" or not incident.ring:
        return same[0] if incident.origin == "g4diag" and len(same) == 1 else None
    last = incident.ring[-1]
    begun = [ring for ring in same if ring.incident.context[MONO] <= last.time_ns]
    # Containers of several nodes have the same pids, and their clocks began at any time.
    alike = [ring for ring in begun if not any(r.seq == last.seq and r != last for r in ring.incident.ring)]
    held = [ring for ring in alike if last in ring.incident.ring]
    return max(held or alike, key=lambda ring: int(ring.incident.context[MONO]), default=None)


def _rank(part: Part) -> int | None:
    """As the process said it; else by the file's name."""
    said = [record.text for record in part.incident.ring if record.kind == "start"]
    told = (_RANK_SAID.search(text) for text in (str(part.incident.context.get(RANKS, "")), *said))
    found = next(filter(None, told), None) or _RANK_NAMED.search(part.name)
    return int(found.group(1)) if found else None
