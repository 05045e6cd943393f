"""Which of several files are of one process: by its pid, which containers on other nodes have too, and where they tell
it by rank and by when their node's clock began."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from g4diag.dump.case import Part
from g4diag.dump.server_log import ARMED
from g4diag.dump.timeline import clock_of
from g4diag.model import Finding, Grade, KernelFault

_FEW = 6
_DRIFT = 60.0  # seconds by which a node's wall clock may be set meanwhile


@dataclass(frozen=True)
class Processes:
    """Of these parts, by their place."""

    told: tuple[Part, ...]

    def same(self, one: int, other: int) -> bool:
        """Whether both tell of one process. A log may tell of several, and is of each."""
        shared = self._pids[one] & self._pids[other]
        if not shared:
            return False
        first, then = self.told[one], self.told[other]
        if first.rank is not None and then.rank is not None and first.rank != then.rank:
            return False
        began, later = self._booted[one], self._booted[other]
        if began is not None and later is not None:
            return abs(began - later) <= _DRIFT
        # A log or a core dump has no clock of its own: where several nodes have that pid, it is of the one beside it.
        return _folder(first) == _folder(then) or not shared & self._on_several_nodes

    def is_of(self, fault: KernelFault, holder: int, other: int) -> bool:
        """Whether a fault that the part `holder` tells is of the process of another part: that part tells it too, or
        has the pid of the core dump `core.PID`."""
        if fault in self.told[other].incident.faults:
            return True
        pid = self.told[other].incident.context.get("pid")
        return type(pid) is int and pid in _named_pid(fault.source) and self.same(holder, other)

    def findings(self) -> Iterator[Finding]:
        """One line where the parts name processes that have nothing to do with each other."""
        groups: list[list[int]] = []
        for index in range(len(self.told)):
            if self._pids[index]:
                joined = [group for group in groups if any(self.same(index, member) for member in group)]
                groups = [group for group in groups if group not in joined]
                groups.append([*(member for group in joined for member in group), index])
        if len(groups) < 2:
            return
        pids = [sorted(set().union(*(self._pids[index] for index in group))) for group in groups]
        names = [[self.told[index].name for index in group] for group in groups]
        said = "; ".join(f"pid {few(of)} ({few(held)})" for of, held in list(zip(pids, names, strict=True))[:_FEW])
        said += f" and {len(groups) - _FEW} more" if len(groups) > _FEW else ""
        named, files = sum(map(len, groups)), len(self.told)
        which = "these files" if named == files else f"{named} of {files} files name their process: they"
        text = f"{which} are of {len(groups)} processes: {said}"
        yield Finding("parts", text, Grade.MEASURED, False, {"pids": pids})

    @cached_property
    def _pids(self) -> list[set[int]]:
        return [_pids(part) for part in self.told]

    @cached_property
    def _booted(self) -> list[float | None]:
        """Seconds since the epoch at which each one's monotonic clock began, None where it does not tell."""
        clocks = (clock_of(part.incident) for part in self.told)
        return [None if clock is None else (clock[0] - clock[1]) / 1e9 for clock in clocks]

    @cached_property
    def _on_several_nodes(self) -> set[int]:
        booted: dict[int, list[float]] = {}
        for pids, began in zip(self._pids, self._booted, strict=True):
            for pid in pids:
                booted.setdefault(pid, []).extend([] if began is None else [began])
        return {pid for pid, times in booted.items() if max(times, default=0.0) - min(times, default=0.0) > _DRIFT}


def few(items: Sequence[object]) -> str:
    """The first ones, and how many more."""
    more = f" and {len(items) - _FEW} more" if len(items) > _FEW else ""
    return ", ".join(map(str, items[:_FEW])) + more


def _folder(part: Part) -> str:
    return part.name.rpartition("/")[0]


def _pids(part: Part) -> set[int]:
    """The processes that a part says it is of: one, or of a log all that were armed."""
    incident, pid = part.incident, part.incident.context.get("pid")
    if incident.origin == "cuda-coredump":
        return _named_pid(part.name)
    armed = [found[2] for event in incident.log if event.kind == "armed" and (found := ARMED.search(event.text))]
    cores = set().union(*(_named_pid(fault.source) for fault in incident.faults))
    return {*([pid] if type(pid) is int else []), *map(int, armed), *cores}


def _named_pid(name: str) -> set[int]:
    """A core dump's, by its name `core.PID`."""
    found = re.search(r"\.(\d{1,9})$", name)
    return {int(found[1])} if found else set()
