"""What the server was started with: sglang's `server_args=ServerArgs(...)`, vLLM's `non-default args: {...}`.

Only plain values are kept, and none whose name tells of a key.
"""

from __future__ import annotations

import re
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import each
from g4diag.model.log import Event, ServerArgs

_SGLANG = re.compile(r".{0,80}?\bserver_args ?[=:] ?(?:ServerArgs)?\(?\{?|ServerArgs\(")
_VLLM = re.compile(r".{0,80}?\bnon-default args: \{")
_PAIR = re.compile(
    r"[\"']?\b([a-z][a-z0-9_]{1,60})[\"']?(?:=|: )"
    r"(?:'([^'\n]{0,300})'|\"([^\"\n]{0,300})\"|(-?\d{1,18}(?:\.\d{1,18})?(?:e-?\d{1,3})?|True|False|None)(?=[,)}\s]|$))"
)
_SECRET = re.compile(r"key|token$|secret|password|passwd|auth|credential|cert|headers")
_MOST = 600


def read(line: Line, place: dict[str, Any]) -> Event | None:
    """The values that are told as plain ones: strings, numbers, switches, None."""
    found = _SGLANG.match(line.whole) or _VLLM.match(line.whole)
    if found is None:
        return None
    values: dict[str, str] = {}
    for name, single, double, bare in _PAIR.findall(line.whole, found.end() - 1):
        if len(values) < _MOST and not _SECRET.search(name):
            values.setdefault(name, single or double or bare)
    place["text"] = f"server_args: {len(values)} values"
    return ServerArgs(**place, values=values) if values else None


EVENT = EventKind(
    "server_args",
    (
        "server_args",
        r"ServerArgs\(",
        "non-default args",
    ),
    each(read),
)
