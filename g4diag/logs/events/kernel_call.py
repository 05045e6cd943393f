"""Calls that sglang's and FlashInfer's kernel-API loggers write into the log."""

from __future__ import annotations

import re
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import each
from g4diag.model.log import Event, KernelCall

_CALL = re.compile(r"(?:SGLang Kernel|FlashInfer) API Call: ")


def read(line: Line, place: dict[str, Any]) -> Event | None:
    """One call."""
    return KernelCall(**place) if _CALL.match(line.text) else None


EVENT = EventKind("kernel_call", ("API Call: ",), each(read))
