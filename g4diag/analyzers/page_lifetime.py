"""When the offending pages were allocated and freed, as far as the file's calls, free lists and recorder know.

A call in a dump carries no step, so it is named by its place among the calls recorded. The recorder keeps counts and
request ids but no page ids: it bounds a page's life by the steps its owner ran in.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.cross_space import Meaning, meanings_of
from g4diag.analyzers.tables import bad_reads
from g4diag.model import Allocation, Finding, Grade, Incident, Release, RingRecord

_PAGES = 3
_UNKNOWN = "not in this file; G4DIAG_RECORDER=on and the allocator traps record it"


def analyze(incident: Incident) -> Iterator[Finding]:
    """A few findings on the first bad pages of the worst read. Nothing where no read is bad."""
    bad = bad_reads(incident)
    if not bad:
        return
    read, bad_BP = bad[0]
    meanings = meanings_of(read, np.argwhere(bad_BP)[:_PAGES].tolist(), incident)
    meanings = [m for m in meanings if not (m.is_clamp or m.belongs or m.beyond is not None)]
    owner = meanings[0].owner if meanings else None
    steps = [record for record in incident.ring if record.kind == "step"]
    told = [*_calls(meanings, incident), *_free(meanings), *_owners_steps(owner.rid if owner else None, steps)]
    told += _apart(steps)
    yield from told or [Finding("page_lifetime", _UNKNOWN, Grade.MEASURED, False, {"known": False})]


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
                yield Finding("page_lifetime", text, Grade.MEASURED, False, data)


def _holds(call: Allocation | Release, meaning: Meaning) -> bool:
    if call.pool.space is meaning.space:
        return bool((call.slots_N // call.pool.page_size == meaning.value).any())
    return call.pool.slot_space is meaning.space and bool((call.slots_N == meaning.value).any())


def _free(meanings: Sequence[Meaning]) -> Iterator[Finding]:
    """Which of the pages were on their free list when the file was written."""
    for state, text in ((False, "live (not on the free list)"), (True, "on the free list")):
        pages = [meaning.value for meaning in meanings if meaning.free is state]
        if pages:
            named = f"{meanings[0].space} {', '.join(map(str, pages))}"
            data = {"pages": pages, "free": state}
            yield Finding("page_lifetime", f"{named}: {text} when the file was written", Grade.MEASURED, False, data)
    unmapped = [m.value for m in meanings if not m.space.is_swa and m.free is False and m.other is None]
    if unmapped:
        unit = meanings[0].space.unit
        named = f"full {unit} {', '.join(map(str, unmapped))}"
        text = f"{named}: of no SWA {unit}; that side was never allocated, or is freed"
        yield Finding("page_lifetime", text, Grade.MEASURED, False, {"pages": unmapped, "unmapped": True})


def _owners_steps(rid: str | None, steps: Sequence[RingRecord]) -> Iterator[Finding]:
    """The recorder keeps crc32 of the first rows' request ids."""
    if rid is None:
        return
    hashed = f"{zlib.crc32(rid.encode(errors='replace')):08x}"
    ran = [record for record in steps if hashed in record.rids]
    if ran:
        first, last = ran[0], ran[-1]
        since = "already ran" if first is steps[0] else "first ran"
        text = (
            f"its owner {since} at step {first.step} ({first.mode}) and last at step {last.step}: allocated in between"
        )
        data = {"owner_first_step": first.step, "owner_last_step": last.step}
        yield Finding("page_lifetime", text, Grade.DERIVED, False, data)


def _apart(steps: Sequence[RingRecord]) -> Iterator[Finding]:
    """The first step by which SWA slots had been freed without their full ones: from then on the numberings drift."""
    for record in steps:
        if record.swa_freed > record.freed >= 0:
            when = "by" if record is steps[0] else "at"
            slots = record.swa_freed - record.freed
            text = f"SWA pages had been freed apart from full ones {when} step {record.step} ({slots} slots)"
            yield Finding("page_lifetime", text, Grade.MEASURED, False, {"apart_since_step": record.step})
            return


ANALYZER = Analyzer("page_lifetime", "When were the offending pages allocated and freed?", analyze)
