"""Structured logging: one JSON object a line, whose text is under "message", "msg", "event" or "text"."""

from __future__ import annotations

import json
from typing import Any

from g4diag.logs import times
from g4diag.logs.contract import Mark, Prefix

_TEXT = ("message", "msg", "event", "text", "MESSAGE", "textPayload")
_TIME = ("timestamp", "time", "ts", "@timestamp", "asctime", "datetime")
_TRACE = ("exc_info", "exception", "stack_trace", "traceback", "stack", "exc_text")


def take(text: str) -> tuple[Mark, str] | None:
    """The message; a traceback beside it follows on lines of its own."""
    if not text.startswith("{") or not text.rstrip().endswith("}"):
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    message = next((said[key] for key in _TEXT if isinstance(said.get(key), str)), None)
    if message is None:
        return None
    trace = next((said[key] for key in _TRACE if isinstance(said.get(key), str)), "")
    when, clock = _time(said)
    number = str(said.get("pid") or said.get("process") or said.get("_PID") or "")
    pid = int(number) if number.isdecimal() and len(number) < 10 else None
    process = f"pid {pid}" if pid is not None else str(said.get("pod") or said.get("logger_process") or "")[:80]
    return Mark(when, clock, process=process, pid=pid, begins="MESSAGE" not in said), "\n".join(
        filter(None, (message, trace))
    )


def _time(said: dict[str, Any]) -> tuple[float | None, str]:
    stamp: Any = next((said[key] for key in _TIME if said.get(key) is not None), None)
    if micros := said.get("__REALTIME_TIMESTAMP"):  # journalctl -o json
        return (int(micros) / 1e6, "zone") if str(micros).isdigit() else (None, "")
    if isinstance(stamp, int | float) and not isinstance(stamp, bool) and 1e8 < abs(stamp) < 1e20:
        power = next(power for power in (1, 1e3, 1e6, 1e9) if abs(stamp) < 1e11 * power)
        return stamp / power, "zone"
    return times.iso(stamp) or (None, "") if isinstance(stamp, str) else (None, "")


PREFIX = Prefix("json_lines", take, "{", first=True)
