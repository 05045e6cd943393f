"""sglang's KV canary (srt/kv_canary): each slot carries a token and a hash; a violation says which slot was wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from math import gcd
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import folded
from g4diag.model.log import Canary

_LINE = re.compile(r"kv_canary violation: ")
_FIELD = re.compile(r"\b(launch_tag|kernel_kind|fail_reason|slot_idx|position|stored_token|expected_token)=(\S{1,60})")
_TAG = re.compile(r"(?:^|_)([KV])(?:_(SWA|FULL))?$")


def read(line: Line, place: dict[str, Any]) -> Canary | None:
    """One violation; the summary that follows it in words is the same one."""
    if not _LINE.match(line.text):
        return None
    said: dict[str, str] = dict(_FIELD.findall(line.text[:1000]))
    tag = said.get("launch_tag", said.get("kernel_kind", ""))
    parts = _TAG.search(tag)
    slot, position = _number(said.get("slot_idx")), _number(said.get("position"))
    return Canary(
        **place,
        tag=tag,
        pool=(parts[2] or "full").lower() if parts else "",
        part=parts[1].lower() if parts else "",
        reason=said.get("fail_reason", "").rstrip(","),
        slot=slot,
        position=position,
        stored=_number(said.get("stored_token")),
        expected=_number(said.get("expected_token")),
        past_next=None if slot is None or position is None else abs(position - slot - 1),
    )


def _number(text: str | None) -> int | None:
    """None also for more digits than the canary's int64 has: what begins with them is another number."""
    found = re.match(r"-?\d{1,19}(?!\d)", text or "")
    return int(found[0]) if found else None


def _merged(first: Canary, later: Canary) -> Canary:
    """The first one, with what is told of all."""
    known = first.past_next is not None and later.past_next is not None
    past = gcd(first.past_next or 0, later.past_next or 0) if known else None
    return replace(first, count=first.count + later.count, past_next=past)


EVENT = EventKind(
    "kv_canary", ("kv_canary violation",), folded(read, lambda event: (event.process, event.tag, event.reason), _merged)
)
