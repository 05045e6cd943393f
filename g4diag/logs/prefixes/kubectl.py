"""`kubectl logs --prefix`: `[pod/NAME/CONTAINER] message`; stern's `NAME CONTAINER message`, before a stamp."""

from __future__ import annotations

import re

from g4diag.logs.contract import Mark, Prefix

_KUBECTL = re.compile(r"\[pod/([\w.-]{1,120})/([\w.-]{1,80})\] ?")
_STERN = re.compile(
    r"([a-z0-9][a-z0-9.-]{3,120}-[a-z0-9]{1,12}) (?:\u203a )?([a-z0-9][a-z0-9-]{1,60}) (?=\[?\d{4}-\d\d-\d\d[ T])"
)


def take(text: str) -> tuple[Mark, str] | None:
    """One writer for each pod and container."""
    found = _KUBECTL.match(text) or _STERN.match(text)
    return (Mark(process=f"{found[1]}/{found[2]}"), text[found.end() :]) if found else None


PREFIX = Prefix("kubectl", take, "[0a")
