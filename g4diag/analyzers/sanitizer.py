"""What compute-sanitizer or cuda-gdb printed of the kernel at fault: thread, access, address, nearest allocation."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.logs.kernels import short_name
from g4diag.model import Finding, Grade, Incident
from g4diag.model.log import KernelSaid

_SHOWN = 4


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding a kernel."""
    faults = [event for event in incident.events if isinstance(event, KernelSaid)]
    for event in faults[:_SHOWN]:
        keys = (
            "by",
            "exception",
            "place",
            "access",
            "size",
            "address",
            "past",
            "before",
            "allocation",
            "device",
            "count",
        )
        data = {key: getattr(event, key) for key in keys} | {"kernel": short_name(event.kernel)}
        yield Finding("sanitizer", sentence(event), Grade.MEASURED, False, data, "kernel-fault")


def sentence(event: KernelSaid) -> str:
    """One line."""
    parts = [f"{event.by}: {event.exception}", f"kernel {short_name(event.kernel)}" if event.kernel else ""]
    parts.append(f"at {event.place}" if event.place else "")
    parts.append(f"thread {event.thread} of block {event.block}" if event.block else "")
    parts.append(f"device {event.device}" if event.device is not None else "")
    parts.append(f"address {event.address}" if event.address else "")
    if event.past is not None and event.allocation is not None:
        parts.append(f"{event.past} bytes past the nearest allocation, of {event.allocation} bytes")
    if event.before is not None and event.allocation is not None:
        parts.append(f"{event.before} bytes before the nearest allocation, of {event.allocation} bytes")
    parts.append(f"launched by {event.host}" if event.host else "")
    parts.append(f"{event.count} such errors" if event.count > 1 else "")
    return ", ".join(filter(None, parts))


ANALYZER = Analyzer("sanitizer", "What did a debugger or a sanitizer print of the kernel?", analyze)
