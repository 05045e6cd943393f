"""The metadata of one call that FlashInfer's logger left (FLASHINFER_LOGLEVEL=10): `metadata.jsonl`, one line before
the call and one after it. Paths named in it are never followed: its tensors are looked for beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from g4diag.dump.codecs import At, Int, Maybe, Named, Text
from g4diag.dump.kernel_call import Call
from g4diag.dump.tensors import checked_shape
from g4diag.dump.timestamps import compact_time
from g4diag.dump.torch_zip import read_bytes
from g4diag.errors import UnsafeInputError

FILE = "metadata.jsonl"
MAX_BYTES = 4 << 20
_CAPTURED = "graph_capture_pending_flush"


def read_call(folder: Path) -> Call:
    """The call in a directory, as its last whole line has it. Raises UnsafeInputError naming what is wrong."""
    record = _last_record(read_bytes(folder / FILE, MAX_BYTES))
    at = At(FILE)
    details = record.get("tensor_details")
    versions = record.get("versions")
    return Call(
        folder=folder.name,
        function=Text().unpack(record.get("function_name"), at.of("function_name")),
        pid=Int(0).unpack(record.get("process_id"), at.of("process_id")),
        number=Int(0).unpack(record.get("call_sequence"), at.of("call_sequence")),
        time=compact_time(Maybe(Text()).unpack(record.get("timestamp"), at.of("timestamp")) or ""),
        status=Text().unpack(record.get("execution_status"), at.of("execution_status")),
        graph=record.get("graph_capture") is True or record.get("execution_status") == _CAPTURED,
        shapes=_shapes(details if isinstance(details, dict) else {}) | _nested(record.get("input_metadata")),
        values=_plain(record.get("input_metadata")),
        versions=Named(Text()).unpack(versions if isinstance(versions, dict) else {}, at.of("versions")),
    )


def _last_record(raw: bytes) -> dict[str, Any]:
    """The last line that is whole; the one after it may have been cut off with the process."""
    for line in reversed(raw.splitlines()):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    raise UnsafeInputError(f"{FILE}: wanted lines of JSON objects, found none")


def _plain(said: Any) -> dict[str, Any]:
    """Plain arguments, those of a pair such as window_size under a key of their own, as its tensors have."""
    rows = said if isinstance(said, dict) else {}
    for key, value in list(rows.items()):
        items = value.get("items") if isinstance(value, dict) else None
        rows |= {f"{key}__{i}": item for i, item in enumerate(items[:4])} if isinstance(items, list) else {}
    return {key: value for key, value in rows.items() if value is None or isinstance(value, bool | int | float | str)}


def _shapes(details: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {key: checked_shape(row.get("shape")) for key, row in details.items() if isinstance(row, dict)}


def _nested(said: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of tensors in a pair, such as (k_cache, v_cache), which have a key of their own."""
    rows = [value for value in said.values() if isinstance(value, dict)] if isinstance(said, dict) else []
    items = [item for row in rows if isinstance(row.get("items"), list) for item in row["items"]]
    found = [item for item in items if isinstance(item, dict) and isinstance(item.get("tensor_key"), str)]
    return {item["tensor_key"]: checked_shape(item.get("shape")) for item in found}
