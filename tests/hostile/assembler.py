"""Pickle programs and torch archives put together by hand, byte for byte the same every time: no torch, no pickle."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PROTO, STOP = b"\x80\x02", b"."


@dataclass(frozen=True)
class Tensor:
    """A tensor as a file describes it, true or not. key: of its storage. count: of its items, as claimed."""

    key: Any
    count: Any
    shape: Sequence[Any]
    strides: Sequence[Any]
    offset: Any = 0
    kind: str = "IntStorage"


@dataclass(frozen=True)
class Raw:
    """Opcodes that push one value, as they are."""

    code: bytes


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(said: str) -> bytes:
    data = said.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def code(value: Any) -> bytes:
    """Opcodes that push `value`, as torch.save would write them."""
    match value:
        case Raw():
            return value.code
        case Tensor():
            return _tensor(value)
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            size = value.bit_length() // 8 + 1
            return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return text(value)
        case dict():
            return b"}(" + b"".join(code(key) + code(item) for key, item in value.items()) + b"u"
        case list():
            return b"](" + b"".join(map(code, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(code, value)) + b"t"
    raise TypeError(type(value))


def _tensor(tensor: Tensor) -> bytes:
    kind = name("torch", tensor.kind)
    reference = b"(" + text("storage") + kind + code(tensor.key) + text("cpu") + code(tensor.count) + b"tQ"
    hooks = name("collections", "OrderedDict") + b")R"
    arguments = code(tensor.offset) + code(tuple(tensor.shape)) + code(tuple(tensor.strides)) + b"\x89" + hooks
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + reference + arguments + b"tR"


def program(value: Any) -> bytes:
    return PROTO + code(value) + STOP


def entry(path: str, method: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0))
    info.compress_type = method
    return info


def archive(
    pickle: bytes,
    storages: Mapping[str, bytes] | None = None,
    *more: tuple[str, bytes],
    method: int = zipfile.ZIP_STORED,
) -> bytes:
    """A torch file. more: further entries, by their whole path."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for path, data in [
            ("a/data.pkl", pickle),
            *((f"a/data/{key}", data) for key, data in (storages or {}).items()),
            ("a/version", b"3\n"),
            *more,
        ]:
            made.writestr(entry(path, method), data)
    return out.getvalue()


def saved(value: Any, storages: Mapping[str, bytes] | None = None) -> bytes:
    """What torch.save would have written for `value`."""
    return archive(program(value), storages)


ROWS, COLUMNS = 2, 4
STORAGES = {"0": struct.pack("<8i", *range(8)), "1": struct.pack("<2i", 100, 200)}


def read(**changes: Any) -> dict[str, Any]:
    """One read of a healthy dump of ours, with fields changed."""
    made: dict[str, Any] = {
        "step": 1,
        "worker": "target",
        "phase": "decode",
        "path": "eager",
        "backend": "TRTLLMHAAttnBackend",
        "layer_id": 0,
        "layer_kind": "full",
        "window_left": -1,
        "pool": {"name": "full", "space": "full page", "page_size": 64, "num_pages": 9},
        "table_space": "full page",
        "page_table_BP": Tensor("0", 8, (ROWS, COLUMNS), (COLUMNS, 1)),
        "seq_lens_B": Tensor("1", 2, (ROWS,), (1,)),
    }
    return made | changes


def dump(**changes: Any) -> dict[str, Any]:
    """A healthy dump of ours, with top-level fields changed."""
    return {"format": "g4diag-dump", "version": 2, "origin": "g4diag", "reads": [read()]} | changes
