"""Ray's `(Actor pid=123, ip=10.0.0.7)` and vLLM's `(Worker_TP2_EP2 pid=733)`: who wrote the line, and its ranks."""

from __future__ import annotations

import re

from g4diag.logs.contract import Mark, Prefix

_HEAD = re.compile(
    r"\(([A-Za-z_][\w.:<>-]{0,80})(?: rank=(\d{1,4}))? pid=(\d{1,9})(?:, ip=([\w.:]{1,60}))?\)"
    r"(?: \[repeated \d{1,9}x[^\]]{0,60}\])? ?"
)
_RANK = re.compile(r"_(DP|TP|PP|EP|CP)(\d{1,4})(?![0-9])")


def take(text: str) -> tuple[Mark, str] | None:
    """One writer for each pid, of each node where Ray tells it."""
    found = _HEAD.match(text)
    if found is None:
        return None
    ranks = {name: int(number) for name, number in _RANK.findall(found[1])}
    if found[2]:
        ranks.setdefault("TP", int(found[2]))
    node = f"@{found[4]}" if found[4] else ""
    return Mark(ranks=ranks, process=f"{found[1]} pid {found[3]}{node}", pid=int(found[3])), text[found.end() :]


PREFIX = Prefix("worker_pid", take, "(")
