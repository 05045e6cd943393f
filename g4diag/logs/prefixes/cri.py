"""Kubernetes' CRI: `2026-05-05T02:22:14.123456789Z stderr F message`; P instead of F: it goes on in the next line."""

from __future__ import annotations

import re

from g4diag.logs import times
from g4diag.logs.contract import Mark, Prefix

_CRI = re.compile(r"(\d{4}-\d\d-\d\dT\S{8,40}) (?:stdout|stderr) ([FP]) ?")


def take(text: str) -> tuple[Mark, str] | None:
    """Zoned; nothing of the writer."""
    found = _CRI.match(text)
    at = times.iso(found[1]) if found else None
    return (Mark(*at, partial=found[2] == "P"), text[found.end() :]) if found and at else None


PREFIX = Prefix("cri", take, "0")
