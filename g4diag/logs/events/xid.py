"""Xids: what the NVIDIA driver reports in the kernel's log. Lines of one fault, seen by several SMs, are one event."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import folded
from g4diag.model.log import Xid

_XID = re.compile(r"(?:kernel: )?(?:\[[\d. ]{1,20}\] )?NVRM: Xid \((?:PCI:)?([\w:.]{1,24})\): (\d{1,4}),? ?(.{0,600})")
_PID = re.compile(r"pid='?(\d{1,9})'?,? ?(?:name=([^,]{1,40}))?")
_ADDRESS = re.compile(r"faulted @ (0x[0-9a-fA-F_]{1,32})")
_UNIT = re.compile(r"\((GPC \d{1,3}, TPC \d{1,3}, SM \d{1,3})\)")
_FAULT = re.compile(r"\b(FAULT_\w{1,40})(?: ACCESS_TYPE_(?:VIRT_|PHYS_)?(\w{1,20}))?")


def read(line: Line, place: dict[str, Any]) -> Xid | None:
    """One line."""
    found = _XID.match(line.text)
    if found is None:
        return None
    detail = found[3]
    owner, address, fault = _PID.search(detail), _ADDRESS.search(detail), _FAULT.search(detail)
    access, unit = (fault[2] or "").lower() if fault else "", _UNIT.search(detail)
    word = "MMU Fault" if "MMU Fault" in detail else ""
    return Xid(
        **place,
        number=int(found[2]),
        pci=found[1],
        pid=int(owner[1]) if owner else None,
        name=(owner[2] or "").strip() if owner else "",
        address=address[1] if address else "",
        access="write" if "write" in access or "atomic" in access else "read" if "read" in access else "",
        fault=fault[1] if fault else word,
        detail=detail[:200],
        units=(unit[1],) if unit else (),
    )


def _key(event: Xid) -> tuple[object, ...]:
    return event.number, event.pci, event.pid, event.address


def _merge(first: Xid, later: Xid) -> Xid:
    units = tuple(dict.fromkeys((*first.units, *later.units)))[:64]
    return replace(
        first, count=first.count + 1, access=first.access or later.access, fault=first.fault or later.fault, units=units
    )


EVENT = EventKind("xid", ("NVRM: Xid",), folded(read, _key, _merge))
