"""What a server of `trap_rivals.py` counted: the canary's violations and looks, the stops of the fork's check."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_CANARY = re.compile(r"\[canary\] step=(\d+) protected_tokens=(\d+) sweep_passes=\d+ violations=(\d+)")
_FORK = re.compile(r"g4bench: the fork's check would have stopped (\d+) of (\d+) looks")


def canary(text: str) -> dict[str, int] | None:
    """The last line of the counters that sglang's KV canary logs every hundred steps: the step, the slots it verified
    or wrote (`looks`) and its violations, all since the server started. None where it logged none."""
    if not (found := _CANARY.findall(text)):
        return None
    step, looks, violations = map(int, found[-1])
    return {"step": step, "looks": looks, "violations": violations}


def fork_check(text: str) -> dict[str, int] | None:
    """Looks of the fork's check as last logged, and how many of them would have stopped the server; None where it did
    not get that far."""
    if not (found := _FORK.findall(text)):
        return None
    stops, looks = map(int, found[-1])
    return {"looks": looks, "stops": stops}


def said(row: Mapping[str, int]) -> str:
    """One of these in words."""
    if "stops" in row:
        return f"would have stopped {row['stops']:,} of {row['looks']:,} looks"
    share = f" ({100 * row['violations'] / row['looks']:.1f} %)" if row["looks"] else ""
    return f"{row['violations']:,} violations of {row['looks']:,} looks by step {row['step']}{share}"


def of(text: str) -> dict[str, Any]:
    """What there is of both, by name."""
    return {name: row for name, row in (("canary", canary(text)), ("fork_check", fork_check(text))) if row}
