"""Read the outline of a safetensors file as hostile input: its header, and integer tensors when asked. No K/V bytes.

Layout: u64 length, little-endian; a JSON object of that length, name -> dtype, shape, data_offsets; the data.
"""

from __future__ import annotations

import json
import math
from typing import Any, BinaryIO

import numpy as np

from g4diag.dump.tensors import Tensor, checked_shape
from g4diag.dump.torch_zip import MAX_FILE_BYTES
from g4diag.errors import UnsafeInputError
from g4diag.model import IntArray

MAX_HEADER_BYTES, MAX_TENSORS = 1 << 20, 4096
_INTEGERS = {"I32": "<i4", "I64": "<i8"}


def safetensors_tensors(file: BinaryIO, size: int) -> dict[str, Tensor]:
    """The tensors in the file, by name. Raises UnsafeInputError naming what does not fit."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        limit = min(MAX_HEADER_BYTES, max(size - 8, 0))
        raise UnsafeInputError(f"safetensors: wanted a header of 2 .. {limit} bytes, found {length}")
    try:
        header = json.loads(file.read(length), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise UnsafeInputError(f"safetensors: header: {type(error).__name__}: {error}") from None
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise UnsafeInputError(f"safetensors: wanted a JSON object of at most {MAX_TENSORS} tensors, found another")
    rows = {name: row for name, row in header.items() if name != "__metadata__"}
    return {name: _outline(file, name, row, 8 + length, size) for name, row in rows.items()}


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice")
    return made


def _outline(file: BinaryIO, name: str, row: Any, start: int, size: int) -> Tensor:
    said = row if isinstance(row, dict) else {}
    dtype, offsets = said.get("dtype"), said.get("data_offsets")
    shape = checked_shape(said.get("shape"))
    numbers = offsets if isinstance(offsets, list) else []
    first, last = numbers if [type(number) for number in numbers] == [int, int] else (-1, -1)
    if not isinstance(dtype, str) or not 0 <= first <= last <= size - start:
        raise UnsafeInputError(f"safetensors: {name[:40]!r}: wanted a dtype and offsets inside the data, found others")
    return Tensor(shape, dtype, lambda: _read(file, name, dtype, shape, start + first, last - first))


def _read(file: BinaryIO, name: str, dtype: str, shape: tuple[int, ...], at: int, count: int) -> IntArray:
    if dtype not in _INTEGERS:
        raise UnsafeInputError(f"wanted an int32 or int64 tensor, found {dtype[:40]!r}")
    wanted = math.prod(shape) * np.dtype(_INTEGERS[dtype]).itemsize
    if count != wanted or count > MAX_FILE_BYTES:
        raise UnsafeInputError(f"safetensors: {name[:40]!r}: wanted {wanted} bytes for its shape, found {count}")
    file.seek(at)
    raw = file.read(count)
    if len(raw) != count:
        raise UnsafeInputError(f"safetensors: {name[:40]!r}: wanted {count} bytes, found {len(raw)}")
    return np.frombuffer(raw, _INTEGERS[dtype]).reshape(shape)
