"""The metadata of one call that sglang's kernel-API logger left (SGLANG_KERNEL_API_LOGLEVEL=10): `metadata.json`,
written before the call and over again after it. Shapes are in the tensors' own file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from g4diag.dump.codecs import At, Int, Maybe, Text
from g4diag.dump.kernel_call import Call
from g4diag.dump.timestamps import compact_time
from g4diag.dump.torch_zip import read_bytes
from g4diag.errors import UnsafeInputError

FILE = "metadata.json"
MAX_BYTES = 4 << 20
_NUMBER = re.compile(r"_call(\d{1,9})$")


def read_call(folder: Path) -> Call:
    """The call in a directory. Raises UnsafeInputError naming what is wrong."""
    try:
        record = json.loads(read_bytes(folder / FILE, MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise UnsafeInputError(f"{FILE}: {type(error).__name__}: {error}") from None
    if not isinstance(record, dict):
        raise UnsafeInputError(f"{FILE}: wanted a JSON object, found something else")
    at, number = At(FILE), _NUMBER.search(folder.name)
    return Call(
        folder=folder.name,
        function=Text().unpack(record.get("function_name"), at.of("function_name")),
        pid=Int(0).unpack(record.get("process_id"), at.of("process_id")),
        number=int(number.group(1)) if number else 0,
        time=compact_time(Maybe(Text()).unpack(record.get("timestamp"), at.of("timestamp")) or ""),
        status=Text().unpack(record.get("execution_status"), at.of("execution_status")),
        values=_plain(record.get("input_metadata")),
    )


def _plain(said: Any) -> dict[str, Any]:
    rows = said if isinstance(said, dict) else {}
    return {key: value for key, value in rows.items() if value is None or isinstance(value, bool | int | float | str)}
