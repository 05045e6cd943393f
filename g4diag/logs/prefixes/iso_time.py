"""`docker logs -t` and `kubectl logs --timestamps`: an ISO time with a zone and a blank before every line."""

from __future__ import annotations

import re

from g4diag.logs import times
from g4diag.logs.contract import Mark, Prefix

_ISO = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)) ?")


def take(text: str) -> tuple[Mark, str] | None:
    """Only with a zone: without one it is a logger's own stamp."""
    found = _ISO.match(text)
    at = times.iso(found[1]) if found else None
    return (Mark(*at), text[found.end() :]) if found and at else None


PREFIX = Prefix("iso_time", take, "0")
