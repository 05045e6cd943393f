"""`docker compose logs`: `service-1  | message`."""

from __future__ import annotations

import re

from g4diag.logs.contract import Mark, Prefix

_HEAD = re.compile(r"([A-Za-z0-9][\w.-]{0,63}) {1,40}\| ?")


def take(text: str) -> tuple[Mark, str] | None:
    """One writer for each container."""
    found = _HEAD.match(text)
    return (Mark(process=found[1]), text[found.end() :]) if found else None


PREFIX = Prefix("compose", take, "0a", first=True)
