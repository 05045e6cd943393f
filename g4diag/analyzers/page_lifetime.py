"""When the offending pages were allocated and freed, as far as the file's calls, free lists and recorder know.

A call in a dump carries no step, so it is named by its place among the calls recorded. The recorder keeps counts and
request ids but no page ids: it bounds a page's life by the steps its owner ran in.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.cross_space import Meaning, meanings_of
from g4diag.analyzers.tables import bad_reads
from g4diag.model import Allocation, Finding, Grade, Incident, IndexMapping, Release, RingRecord

_PAGES = 3
_UNKNOWN = "not in this file; G4DIAG_RECORDER=on and the allocator traps record it"
_DRAFTS = "draft-own"


def analyze(incident: Incident) -> Iterator[Finding]:
    """A few findings on the first bad pages of the worst read. Nothing where no read is bad."""
    bad = bad_reads(incident)
    if not bad:
        return
    read, bad_BP = bad[0]
    meanings = meanings_of(read, np.argwhere(bad_BP)[:_PAGES].tolist(), incident)
    named = {m.value: m for m in meanings if m.value > 0 and not (m.is_clamp or m.belongs or m.beyond is not None)}
    meanings = [*named.values()]
    steps = [record for record in incident.ring if record.kind == "step"]
    told = [
        *_calls(meanings, incident),
        *_free(meanings, read.mapping or incident.mapping),
        *_owners_steps(meanings, steps),
    ]
    told += _apart(steps)
    unknown = {"known": False, "pages": [m.value for m in meanings], "space": str(read.expected_space.other)}
    yield from told or [_finding(_UNKNOWN, unknown, "no-lifetime")] * bool(meanings)


def _finding(text: str, data: dict[str, Any], kind: str) -> Finding:
    return Finding("page_lifetime", text, Grade.MEASURED, False, data, kind)


def _calls(meanings: Sequence[Meaning], incident: Incident) -> Iterator[Finding]:
    """The last recorded allocator call that holds each page, in the space its number was taken from."""
    recorded: dict[str, Sequence[Allocation | Release]]
    recorded = {"handed out": incident.allocations, "given back": incident.releases}
    for meaning in meanings:
        for event, calls in recorded.items():
            holding = [index for index, call in enumerate(calls) if _holds(call, meaning)]
            if holding:
                place = f"call {holding[-1] + 1} of {len(calls)} recorded"
                data = {"page": meaning.value, "event": event, "call": holding[-1] + 1, "of": len(calls)}
                text = f"{meaning.space} {meaning.value} was {event} by {place}"
                yield _finding(text, data | {"space": str(meaning.space)}, "event")


def _holds(call: Allocation | Release, meaning: Meaning) -> bool:
    """By the allocator of the server's pools: a draft's own pool counts from 1 too."""
    if call.pool.name == _DRAFTS:
        return False
    if call.pool.space is meaning.space:
        return bool((call.slots_N // call.pool.page_size == meaning.value).any())
    return call.pool.slot_space is meaning.space and bool((call.slots_N == meaning.value).any())


def _free(meanings: Sequence[Meaning], mapping: IndexMapping | None) -> Iterator[Finding]:
    """Which of the pages were on their free list when the file was written. One that is not may be a leak."""
    for state, text in ((False, "not on the free list"), (True, "on the free list")):
        pages = [meaning.value for meaning in meanings if meaning.free is state]
        if pages:
            space = str(meanings[0].space)
            data = {"pages": pages, "free": state, "space": space}
            yield _finding(f"{space} {_listed(pages)}: {text} when the file was written", data, "free-list")
    unmapped = [m.value for m in meanings if not m.space.is_swa and m.free is False and m.other is None]
    if unmapped and mapping is not None:
        space, unit = str(meanings[0].space), meanings[0].space.unit
        text = f"{space} {_listed(unmapped)}: of no SWA {unit}; that side was never allocated, or is freed"
        yield _finding(text, {"pages": unmapped, "unmapped": True, "space": space}, "unmapped")


def _listed(pages: Sequence[int]) -> str:
    return ", ".join(map(str, pages))


def _owners_steps(meanings: Sequence[Meaning], steps: Sequence[RingRecord]) -> Iterator[Finding]:
    """Of the first page's owner. The recorder keeps crc32 of the first rows' request ids. A cached prefix is older
    than the request that holds it, so nothing is said of when the page was allocated."""
    owner = meanings[0].owner if meanings else None
    if owner is None or not owner.has_rid:
        return
    rid, page = owner.rid, meanings[0].value
    hashed = f"{zlib.crc32(rid.encode(errors='replace')):08x}"
    ran = [record for record in steps if hashed in record.rids]
    if ran:
        first, last = ran[0], ran[-1]
        since = "already ran" if first is steps[0] else "first ran"
        text = f"request {rid}, which holds {page}, {since} at step {first.step} ({first.mode}) and last at step "
        data = {"owner_first_step": first.step, "owner_last_step": last.step, "owner": rid, "page": page}
        why = (f"crc32 {hashed} stands for {rid} in the recorder",)
        yield Finding("page_lifetime", f"{text}{last.step}", Grade.DERIVED, False, data, "owner-steps", why)


def _apart(steps: Sequence[RingRecord]) -> Iterator[Finding]:
    """The first step by which SWA slots had been freed without their full ones: from then on the numberings drift."""
    for record in steps:
        if record.swa_freed > record.freed >= 0:
            when = "by" if record is steps[0] else "at"
            slots = record.swa_freed - record.freed
            text = f"SWA pages had been freed apart from full ones {when} step {record.step}: {slots} slots, or more"
            yield _finding(text, {"apart_since_step": record.step, "slots": slots}, "freed-apart")
            return


ANALYZER = Analyzer("page_lifetime", "When were the offending pages allocated and freed?", analyze)
