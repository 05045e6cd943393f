"""Lines of our own: what is armed in a process, that nothing is, and violations that traps logged."""

from __future__ import annotations

import json
import re
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import each
from g4diag.model.log import Armed, Event, TrapSaid

_ARMED = re.compile(r"g4diag armed: (\{.{0,3000}?\}) pid=(\d{1,9})")
_NOT_ARMED = re.compile(r"g4diag NOT ARMED.{0,300}")
_VIOLATION = re.compile(r'g4diag violation (?:trap=|\{"trap": )')


def read(line: Line, place: dict[str, Any]) -> Event | None:
    """One line of ours, from its beginning."""
    if _VIOLATION.match(line.text):
        return TrapSaid(**place)
    if refused := _NOT_ARMED.match(line.text):
        return Armed(**place, refused=refused[0])
    if armed := _ARMED.match(line.text):
        return Armed(**place, manifest=_manifest(armed[1]), pid=int(armed[2]))
    return None


def _manifest(text: str) -> dict[str, tuple[str, ...]]:
    """Kind -> names; what is no manifest of ours tells nothing."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(said, dict) or not all(isinstance(names, list) for names in said.values()):
        return {}
    return {str(kind): tuple(str(name)[:80] for name in names[:200]) for kind, names in list(said.items())[:20]}


EVENT = EventKind("armed", ("g4diag (?:armed|NOT ARMED|violation)",), each(read))
