"""What a dead server's log says: the outcome in one word, and the line that shows it. Text in, values out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from g4diag.dump.server_log import ARMED, EXCEPTION, ILLEGAL_ACCESS, NOT_ARMED

OUTCOMES = (
    *("finished", "wrong-output", "illegal-access", "cublas-failed", "index-error", "size-mismatch", "assertion-error"),
    *("other-error", "timeout"),
)

# In this order: one illegal access makes every later CUDA call fail, whatever that call was.
_SIGNS = (
    (
        "illegal-access",
        ILLEGAL_ACCESS,
    ),
    # A library's call on a context that has faulted: it says that something failed, and not what.
    ("cublas-failed", re.compile(r"CUDA error: CUBLAS_STATUS_EXECUTION_FAILED\b.*")),
    ("index-error", re.compile(r"IndexError: .{0,300}out of range")),
    # torch says it in two ways: the second when the slot holds one entry.
    (
        "size-mismatch",
        re.compile(r"RuntimeError: (?:The size of tensor a .{0,200} must match|output with shape )"),
    ),
    ("assertion-error", re.compile(r"^AssertionError\b.*", re.MULTILINE)),
    ("other-error", EXCEPTION),
)


def classify(text: str, raised: str, *, complete: bool, timed_out: bool) -> tuple[str, str]:
    """(outcome, line). raised: what the client saw. complete: every request came back whole; nothing said at
    shutdown takes that away. A time limit met after the server had died counts as its death."""
    if complete:
        return "finished", ""
    for outcome, sign in _SIGNS[:-1]:
        if found := sign.search(text) or sign.search(raised):
            return outcome, _line_of(found)
    if timed_out:
        return "timeout", _last_line(text)
    said = last_error(text) or raised or _last_line(text) or "the server left without a word"
    return "other-error", said


def last_error(text: str) -> str:
    """The last line that names a Python exception, which is the one that ended it; "" if none does."""
    last = None
    for last in _SIGNS[-1][1].finditer(text):  # noqa: B007
        pass
    return _line_of(last) if last else ""


def fatal(text: str) -> bool:
    """Whether the log already holds the line a server does not come back from."""
    return any(sign.search(text) for _, sign in _SIGNS[:-1])


def armed(text: str) -> dict[str, Any]:
    """The armed manifest the server's processes logged, and in how many `processes`; `refused`: why one was not."""
    found = {pid: json.loads(manifest) for manifest, pid in ARMED.findall(text)}
    values: dict[str, Any] = {"processes": len(found)}
    for kind in ("patches", "faults", "traps"):
        # Only what is on in all of them is on.
        sets = [set(manifest.get(kind, ())) for manifest in found.values()]
        values[kind] = sorted(set.intersection(*sets)) if sets else []
    if refused := NOT_ARMED.search(text):
        values["refused"] = refused.group(0)[:300]
    return values


def peak(text: str, name: str) -> float | None:
    """Highest value the scheduler logged as `name: 0.93`; None if it logged none."""
    values = [float(value) for value in re.findall(rf"{re.escape(name)}: (\d+(?:\.\d+)?)", text)]
    return max(values) if values else None


def accept_lengths(text: str) -> tuple[tuple[int, float], ...]:
    """(running requests, accept length since the line before) of every decode line, in order."""
    found = re.findall(r"#running-req: (\d{1,6}).{0,400}?accept len: (\d{1,4}(?:\.\d+)?)", text)
    return tuple((int(running), float(length)) for running, length in found)


def named(text: str) -> str:
    """The first bad read that a trap logged: its name, and where it was; "" if none did."""
    if not (line := re.search(r"g4diag violation trap=(\S+) .*", text)):
        return ""
    fields = re.findall(r"\b(layer|row|column|value|bound|expected)=(\d+)", line[0])
    return " ".join([f"{line[1]}:", *(f"{name} {value}" for name, value in fields)])


def tail(text: str, lines: int) -> Iterable[str]:
    """The last lines, without those of a progress bar."""
    return [line.rpartition("\r")[2] for line in text.splitlines() if line.strip()][-lines:]


def _line_of(found: re.Match[str]) -> str:
    start = found.string.rfind("\n", 0, found.start() + 1) + 1
    end = found.string.find("\n", found.end())
    return found.string[start : end if end >= 0 else None].strip()[:400]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""
