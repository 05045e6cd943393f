"""Docker's json-file driver: `{"log": "...\\n", "stream": "stderr", "time": "..."}`, one object a line."""

from __future__ import annotations

import json

from g4diag.logs import times
from g4diag.logs.contract import Mark, Prefix


def take(text: str) -> tuple[Mark, str] | None:
    """The inner line, without its end."""
    if not (text.startswith('{"log"') or (text.startswith("{") and '"log":' in text)):
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("log"), str):
        return None
    when, clock = times.iso(str(said.get("time", ""))) or (None, "")
    # A record that Docker cut at 16 KiB has no line end, and goes on in the next.
    partial = not said["log"].endswith("\n") and len(said["log"]) >= 16_000
    return Mark(when, clock, partial=partial), said["log"].rstrip("\r\n")


PREFIX = Prefix("docker_json", take, "{", first=True)
