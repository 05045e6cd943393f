"""A directory of logged kernel calls as one incident: FlashInfer's or sglang's, one process at a time.

Only integer tables and shapes are read, so a directory of gigabytes of K/V costs what its tables cost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from g4diag.dump import flashinfer_dump, kernel_api_dump
from g4diag.dump.kernel_call import DIED, DONE, Call, Note, attention_read, is_attention
from g4diag.dump.safetensors import safetensors_tensors
from g4diag.dump.tensors import Tensor, torch_tensors
from g4diag.dump.torch_zip import naming, open_regular
from g4diag.errors import G4DiagError, UnsafeInputError
from g4diag.model import AttentionRead, Grade, Incident, LogEvent

MAX_READS, MAX_ENTRIES, KEPT_CALLS = 256, 32 << 20, 32
_FORMATS: tuple[tuple[str, str, Callable[[Path], Call]], ...] = (
    ("flashinfer-dump", flashinfer_dump.FILE, flashinfer_dump.read_call),
    ("sglang-dump", kernel_api_dump.FILE, kernel_api_dump.read_call),
)
_TENSORS = (("inputs.pt", torch_tensors), ("inputs.safetensors", safetensors_tensors))


@dataclass(frozen=True)
class ApiDump:
    """The calls of one process. origin: "flashinfer-dump" or "sglang-dump"."""

    origin: str
    pid: int
    incident: Incident


def origin_of(names: Iterable[str]) -> str | None:
    """Who wrote a directory that holds these names; None if it is not a call's. Many a folder has a metadata.json:
    a call's has its tensors too, or next to nothing."""
    held = set(names)
    if len(held) > 3 and not held & {name for name, _ in _TENSORS}:
        return None
    return next((origin for origin, file, _ in _FORMATS if file in held), None)


def read_calls(folders: Sequence[Path]) -> tuple[tuple[ApiDump, ...], tuple[Note, ...]]:
    """The calls in these directories by process, and what could not be read of them."""
    groups: dict[tuple[str, int], list[tuple[Call, Path]]] = defaultdict(list)
    notes: list[Note] = []
    for folder in folders:
        for origin, file, read in _FORMATS:
            if _regular(folder / file):
                try:
                    call = read(folder)
                except G4DiagError as error:
                    notes.append((Grade.MEASURED, f"{folder.name}: not read: {error}"))
                else:
                    groups[origin, call.pid].append((call, folder))
                break
        else:
            notes.append((Grade.MEASURED, f"{folder.name}: not read: its metadata is not a regular file"))
    dumps = [
        ApiDump(origin, pid, _incident(origin, pid, found))
        for (origin, pid), found in sorted(groups.items(), key=_of_group)
    ]
    return tuple(dumps), tuple(notes)


def _of_group(item: tuple[tuple[str, int], object]) -> tuple[str, int]:
    return item[0]


def _incident(origin: str, pid: int, found: list[tuple[Call, Path]]) -> Incident:
    found.sort(key=lambda item: (item[0].time or 0.0, item[0].number, item[0].folder))
    calls = [call for call, _ in found]
    judged = [(call, folder) for call, folder in found if is_attention(call)]
    reads, notes, unread = _reads(judged[-MAX_READS:])
    if len(judged) > MAX_READS:
        unread.append(f"{len(judged) - MAX_READS} earlier attention calls were not read")
    return Incident(
        origin=origin,
        reads=tuple(reads),
        pools=tuple({(read.pool.name, read.pool.num_pages): read.pool for read in reads}.values()),
        versions=dict(calls[-1].versions),
        context={"pid": pid, "calls": len(calls), "attention_calls": len(judged)},
        notes=(*_ending(calls), *_limits(reads), *notes, *((Grade.MEASURED, text) for text in unread)),
        log=tuple(map(_event, calls[-KEPT_CALLS:])),
        unread=tuple(unread),
    )


def _reads(found: list[tuple[Call, Path]]) -> tuple[list[AttentionRead], list[Note], list[str]]:
    """The reads, what is to be said of them, and what was not read: the call that died first, if it is one of them."""
    reads: list[AttentionRead] = []
    notes: list[Note] = []
    unread: list[str] = []
    entries = 0
    for call, folder in reversed(found):
        try:
            with _tensors(folder) as tensors:
                read, said = attention_read(call, tensors)
        except G4DiagError as error:
            whose = ", the call that never returned" if call.status == DIED else ""
            unread.append(f"{call.folder}{whose}: not read: {error}")
            continue
        notes.extend(said)
        entries += 0 if read is None else read.page_table_BP.size
        if entries > MAX_ENTRIES:
            unread.append(f"calls before {call.folder} were not read: their tables are too large")
            break
        if read is not None:
            reads.insert(0, read)
    return reads, notes, unread


@contextmanager
def _tensors(folder: Path) -> Iterator[Mapping[str, Tensor]]:
    """What lies beside the metadata, by its fixed names; a link is not followed. Nothing where neither is there."""
    for name, read in _TENSORS:
        path = folder / name
        if path.is_symlink():
            raise UnsafeInputError(f"{name}: wanted a file, found a link: not followed")
        if path.exists():
            with naming(Path(name)), open_regular(path) as (file, size):
                yield read(file, size)
            return
    yield {}


def _regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _ending(calls: Sequence[Call]) -> Iterator[Note]:
    last = calls[-1]
    if last.status == DIED:
        yield Grade.MEASURED, f"the last call has no line after it: it never returned: {last.folder}"
        note = "the kernel that died is that call's, or one launched since the call before it that was not logged"
        yield Grade.DERIVED, note
    elif last.status == DONE:
        yield Grade.MEASURED, f"the last logged call came back: {last.folder}"
    else:
        yield Grade.MEASURED, f"the last call is marked {last.status[:40]!r}: {last.folder}"
    if any(call.graph for call in calls):
        note = "of calls in a CUDA graph the files hold the last replay that came back, not one that died"
        yield Grade.DERIVED, note


def _limits(reads: Sequence[AttentionRead]) -> Iterator[Note]:
    if reads:
        yield Grade.DERIVED, "layer kinds are taken from window_left: a window means a sliding layer in an SWA pool"
        unseen = "only bounds can be judged, wrong pages in range are not seen"
        yield Grade.DERIVED, f"these files name no layer and hold no mapping: {unseen}"


def _event(call: Call) -> LogEvent:
    text = f"{call.function} call {call.number} (pid {call.pid}): {call.status}"
    return LogEvent("kernel-call", text[:400], call.folder, call.time)
