"""Xid triage: what each number means, whose fault, and what several of them say together."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from g4diag.model.log import DeviceAsserts, DeviceSaid, Event, KernelSaid, Raised, Xid

# Drivers and the kernel's log may be this far behind a program that dies, seconds.
_SAME = 5.0


@dataclass(frozen=True)
class Meaning:
    """Of one number. whose: "program", "hardware", "either" or "" (not known here). after: it usually follows another
    error. mild: no program ends of it. do: what to do. name: NVIDIA's. checked: which of means and do NVIDIA's own
    text bears out."""

    number: int
    means: str
    whose: str
    do: str
    after: bool = False
    mild: bool = False
    name: str = ""
    checked: str = ""

    @property
    def is_of_hardware(self) -> bool:
        """Whether it may explain why a program ended by a fault of the hardware."""
        return self.whose == "hardware" and not self.mild


@dataclass(frozen=True)
class Told:
    """One Xid with what stands around it. repeated: times that the same address faulted in this log, this one among
    them. order: "before", "with" or "after" the first Python or CUDA error that the log tells; "" if it tells none
    that can be compared. only_follows: it is of the teardown."""

    event: Xid
    meaning: Meaning
    repeated: int = 1
    order: str = ""
    only_follows: bool = False

    def sentence(self) -> str:
        """One line, without an end."""
        event, what = self.event, self.meaning
        times = f", one fault told in {event.count} lines" if event.count > 1 else ""
        times += f" by {len(event.units)} SMs" if len(event.units) > 1 else ""
        who = f" (GPU {event.pci}{times})"
        parts = [f"Xid {event.number}{who}: {what.means or 'not in our table'}"]
        if event.fault == "MMU Fault" and event.number == 13:
            parts.append("an MMU fault: an address that is not mapped")
        if event.access:
            parts.append(f"a {event.access} at {event.address}" if event.address else f"a {event.access}")
        if self.repeated > 1:
            parts.append(f"the same address {self.repeated} times: not random")
        if self.order == "after" and not self.only_follows:
            parts.append("logged after the error of the program")
        if self.only_follows:
            parts.append("it only follows another error")
        return "; ".join(parts)


@functools.cache
def meanings() -> dict[int, Meaning]:
    """The data file, by number."""
    text = resources.files("g4diag.logs").joinpath("xids.toml").read_text(encoding="utf-8")
    return {row["number"]: Meaning(**row) for row in tomllib.loads(text)["xid"]}


def triage(events: Sequence[Event]) -> tuple[Told, ...]:
    """Every Xid of a log, in its order."""
    xids = [event for event in events if isinstance(event, Xid)]
    addresses = [event.address for event in xids if event.address]
    error = next((e for e in events if isinstance(e, Raised | DeviceSaid | DeviceAsserts | KernelSaid)), None)
    found: list[Told] = []
    for event in xids:
        known = meanings().get(event.number, Meaning(event.number, "", "", ""))
        order = _order(event, error)
        led = any(told.event.pci == event.pci and not told.only_follows for told in found)
        follows = known.after and (led or error is not None)
        repeated = addresses.count(event.address) if event.address else 1
        found.append(Told(event, known, repeated, order, follows))
    return tuple(found)


def hardware(told: Iterable[Told]) -> tuple[Told, ...]:
    """Those that are a fault of the hardware of which a program ends."""
    return tuple(row for row in told if row.meaning.is_of_hardware)


def _order(event: Xid, error: Event | None) -> str:
    if error is None or event.time is None or error.time is None or {event.clock, error.clock} - {"local", "zone"}:
        return ""
    apart = event.time - error.time
    if abs(apart) <= _SAME:
        return "with"
    return "before" if apart < 0 else "after"
