"""What a log tells, as facts that a known issue asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from g4diag.analyzers.once import once
from g4diag.logs import accept_length, facts, leaks, story, xid
from g4diag.model import Incident
from g4diag.model.log import Canary, Chosen, DeviceAsserts, Event, PoolAudit, Raised

# Facts of a log, besides those of `LogFacts.words`: name -> what its words are.
NAMES = {
    "speculates": "yes or no",
    "attention": "attention backends of the server, as its flags name them",
    "drafts_on": "the draft's own backend, where one is named",
    "draft": "frozen-kv, where speculation says so",
    "topk": "tree or chain",
    "model": "gemma4 or other",
    "windows": "yes where layers slide",
    "graphs": "off where the server was told so",
    "radix": "on or off",
    "kv": "fp8 or other",
    "disaggregation": "as the flag",
    "raised": "an exception and where, as `IndexError in _get_key_buffer` and `IndexError at memory_pool.py`",
    "kernel": "what the named kernel does; `sliding attention` for one that runs sliding layers",
    "leak": "as `swa over`, `full short`, `full balanced`, of every pool that an audit prints",
    "leaked_pages": "one, several, or not whole, of the pool that is off by the fewest slots",
    "device": "launch or waited; assert-index for an index out of bounds",
    "use": "full where a decode line says that nine tenths of the full pool are used",
    "course": "collapse, flat or steady, of the accept length",
    "jit": "no std::bit_cast, where a compiler stopped at that while a kernel was built",
    "canary": "noted one too high, where each violation is of a position noted after the layers that is one more than "
    "its slot's place in a page; else other. beside a crash, where such a log of a Gemma-4 tells one",
}
_NEARLY, _ONE_HIGH = 0.9, "noted one too high"


@dataclass(frozen=True)
class Told:
    """All that `logs` makes of one incident's events. is_noise: what the KV canary said is of Gemma's own addition, so
    it is in none of the crashes."""

    facts: facts.LogFacts
    crashes: tuple[story.Crash, ...]
    leaks: tuple[tuple[PoolAudit, tuple[leaks.Leak, ...]], ...]
    xids: tuple[xid.Told, ...]
    courses: tuple[accept_length.Course, ...]
    is_noise: bool = False


@once
def told(incident: Incident) -> Told:
    """All of it."""
    events = incident.events
    server = facts.of(events)
    audits = [event for event in events if isinstance(event, PoolAudit)]
    is_noise = _ONE_HIGH in _canary(events, server.page_size) and "gemma4" in server.words().get("model", ())
    return Told(
        server,
        story.of([event for event in events if not (is_noise and isinstance(event, Canary))]),
        tuple((audit, leaks.leaks(audit, server.page_size)) for audit in audits),
        xid.triage(events),
        accept_length.courses(events),
        is_noise,
    )


def words(incident: Incident) -> dict[str, set[str]]:
    """Fact -> words; {} for an incident without a log."""
    if not incident.events:
        return {}
    said = told(incident)
    found: dict[str, set[str]] = {key: set(values) for key, values in said.facts.words().items() if key != "page"}
    found["raised"] = set(_raised(incident))
    found["kernel"] = {("sliding " if k.sliding else "") + k.role for k in said.facts.kernels if k.role}
    found["leak"], found["leaked_pages"] = set(_leaks(said)), set(_pages(said))
    found["device"] = set(_devices(said))
    found["phase"] = set(said.facts.phases)
    if (said.facts.full_use or 0) >= _NEARLY:
        found["use"] = {"full"}
    found["course"] = {course.kind for course in said.courses}
    found["jit"] = {event.value for event in incident.events if isinstance(event, Chosen) and event.key == "jit"}
    found["canary"] = set(_canary(incident.events, said.facts.page_size))
    if said.is_noise and (said.xids or not all(map(_is_canarys, said.crashes))):
        found["canary"].add("beside a crash")
    return found


def _raised(incident: Incident) -> Iterator[str]:
    for event in raised(incident):
        if frame := event.killed.surfaced:
            yield f"{event.killed.name} in {frame.function}"
            yield f"{event.killed.name} at {frame.where.rpartition(':')[0]}"


def _leaks(said: Told) -> Iterator[str]:
    for _, rows in said.leaks:
        for row in rows:
            yield f"{row.sum.pool} {'over' if row.over > 0 else 'short' if row.over < 0 else 'balanced'}"


def _pages(said: Told) -> Iterator[str]:
    off = [row for _, rows in said.leaks for row in rows if row.over and not row.is_rows]
    if off:
        least = min(off, key=lambda row: abs(row.over))
        yield "not whole" if least.pages is None else "one" if least.pages == 1 else "several"


def _canary(events: Iterable[Event], page_size: int | None) -> Iterator[str]:
    """Pages are handed out whole, so that a token's slot has its position's place in a page."""
    said = [event for event in events if isinstance(event, Canary)]
    if not said or page_size is None or page_size < 2 or any(event.past_next is None for event in said):
        return
    noted = [event.tag.startswith("TAIL") and event.reason == "verify_position" for event in said]
    high = [(event.past_next or 0) % page_size == 0 for event in said]
    yield _ONE_HIGH if all(noted) and all(high) else "other"


def _is_canarys(crash: story.Crash) -> bool:
    """Whether the canary raised it, as in its mode `raise`."""
    return crash.raised is not None and crash.raised.killed.message.startswith("kv_canary violation")


def _devices(said: Told) -> Iterator[str]:
    for crash in said.crashes:
        if crash.blame.how in ("launch", "waited", "replay"):
            yield "launch" if crash.blame.how == "launch" else "waited"
        for event in crash.events:
            if isinstance(event, DeviceAsserts) and event.is_index:
                yield "assert-index"


def is_log(incident: Incident) -> bool:
    """Whether it is a server's log of which something is told. A post-mortem holds a log's end, and is none."""
    return incident.origin == "server-log" and bool(incident.events)


def canaries(incident: Incident) -> list[Canary]:
    """Violations that sglang's canary logged, in order."""
    return [event for event in incident.events if isinstance(event, Canary)]


def raised(incident: Incident) -> list[Raised]:
    """Python exceptions that are no relay of another's."""
    return [event for event in incident.events if isinstance(event, Raised) and not event.relayed]
