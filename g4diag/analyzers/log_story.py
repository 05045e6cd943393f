"""Every crash that a log tells, one finding each, in order: what came first, where it surfaced, which kernel is named.

How the line that it surfaced at is to be read is `misattribution`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.log_rungs import headline, moment, what
from g4diag.analyzers.log_words import told
from g4diag.logs.kernels import kernel
from g4diag.logs.story import Crash
from g4diag.model import Finding, Grade, Incident
from g4diag.model.log import DeviceAsserts, Ended, Event, OutOfMemory, Raised, TimedOut, Xid

_SHOWN, _THEN = 8, 6


def analyze(incident: Incident) -> Iterator[Finding]:
    """At most _SHOWN crashes; of each the story, how its line is to be read, and the kernel that is named."""
    crashes = told(incident).crashes if incident.events else ()
    for number, crash in enumerate(crashes[:_SHOWN], start=1):
        head = f"crash {number} of {len(crashes)}: " if len(crashes) > 1 else ""
        text = f"{head}{headline(crash)}{_then(crash)}"
        yield Finding("log_story", text, Grade.MEASURED, False, _data(crash), kind="story")
        if crash.blame.kernel:
            yield _kernel(head, crash.blame.kernel, crash)
    if len(crashes) > _SHOWN:
        yield Finding(
            "log_story", f"and {len(crashes) - _SHOWN} more crashes", Grade.MEASURED, False, {"crashes": len(crashes)}
        )


def _then(crash: Crash) -> str:
    """What followed, each kind once."""
    said: dict[str, str] = {}
    for event in crash.events:
        if event is crash.first or (isinstance(event, Ended) and event.teardown):
            continue
        if not isinstance(event, DeviceAsserts | OutOfMemory | TimedOut | Raised | Ended) or _repeats(
            event, crash.first
        ):
            continue
        said.setdefault(what(event), f"{what(event)}{_after(event, crash.first)}")
    shown = list(said.values())[:_THEN]
    return f"; then {'; then '.join(shown)}" if shown else ""


def _repeats(event: Event, first: Event) -> bool:
    """Whether it says what was said: the same line, another's error passed on, or the same exception elsewhere."""
    if event.line == first.line or (isinstance(event, Raised) and event.relayed):
        return True
    return isinstance(event, Raised) and isinstance(first, Raised) and what(event) == what(first)


def _after(event: Event, first: Event) -> str:
    # Without a stamp of its own it has the time of the line before it.
    if (
        isinstance(event, DeviceAsserts)
        or event.time is None
        or first.time is None
        or event.clock != first.clock
        or event.time <= first.time
    ):
        return ""
    return f" {event.time - first.time:.0f} s later"


def _kernel(head: str, name: str, crash: Crash) -> Finding:
    found = kernel(name)
    touches = {True: "it works on the KV cache or what addresses it", False: "it does not touch the KV cache", None: ""}
    role = f", {found.role}: {touches[found.kv]}" if found.role else ": what it does is not in our table of kernels"
    sliding = "; it runs a sliding layer" if found.sliding else ""
    data = {"kernel": found.name, "role": found.role, "kv": found.kv, "sliding": found.sliding}
    return Finding(
        "log_story", f"{head}the kernel at fault is {found.name}{role}{sliding}", Grade.MEASURED, False, data
    )


def _data(crash: Crash) -> dict[str, object]:
    first, surfaced = crash.first, crash.surfaced
    return {
        "kind": first.KIND,
        "source": first.source,
        "time": first.time,
        "clock": first.clock,
        "at": moment(first),
        "rank": first.rank,
        "process": first.process,
        "ranks": list(crash.ranks),
        "surfaced": surfaced.where if surfaced else None,
        "blame": crash.blame.how,
        "handled": crash.handled,
        "xids": [event.number for event in crash.events if isinstance(event, Xid)],
    }


ANALYZER = Analyzer("log_story", "Which crashes does the log tell, and in which order?", analyze)
