"""sglang's KV canary (srt/kv_canary): each slot carries a token and a hash; a violation says which slot was wrong."""

from __future__ import annotations

import re
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import counted, folded
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
    return Canary(
        **place,
        tag=tag,
        pool=(parts[2] or "full").lower() if parts else "",
        part=parts[1].lower() if parts else "",
        reason=said.get("fail_reason", "").rstrip(","),
        slot=_number(said.get("slot_idx")),
        position=_number(said.get("position")),
        stored=_number(said.get("stored_token")),
        expected=_number(said.get("expected_token")),
    )


def _number(text: str | None) -> int | None:
    found = re.match(r"-?\d{1,18}", text or "")
    return int(found[0]) if found else None


EVENT = EventKind(
    "kv_canary", ("kv_canary violation",), folded(read, lambda event: (event.process, event.tag), counted)
)
