"""A file of tensors seen from outside: names, shapes and types, and the values of the few integer ones that are asked
for. What FlashInfer and sglang leave beside a call also holds the K/V cache: its bytes are never read.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from g4diag.dump.safe_pickle import MAX_PICKLE_BYTES, Global, Machine, tensor_view
from g4diag.dump.torch_zip import MAX_FILE_BYTES, checked_names, in_words
from g4diag.errors import UnsafeInputError
from g4diag.model import IntArray

MAX_DIMENSIONS, MAX_SIZE = 8, 1 << 40
MAX_DIRECTORY_BYTES = 1 << 20
_TYPES = re.compile(r"torch\.storage UntypedStorage|torch (?:\w+Storage|float\w+|bfloat16|u?int\d+|complex\d+)")
_REBUILDS = {"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3"}
_INTEGERS = {"IntStorage": "i4", "LongStorage": "i8"}


@dataclass(frozen=True)
class Tensor:
    """shape: as the file says. read: the values, of an int32 or int64 tensor only, while the file is open; raises
    UnsafeInputError for any other type and for bytes that are not there."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], IntArray]


def torch_tensors(file: BinaryIO, size: int) -> dict[str, Tensor]:
    """The tensors of a dict that torch.save wrote, by name; what else the dict holds is left out.

    Reads the archive's directory and data.pkl, which is walked and not unpickled. Raises UnsafeInputError."""
    if not file.read(4).startswith(b"PK\x03\x04"):
        raise UnsafeInputError("tensors: wanted a torch zip file, found another format")
    if (found := _directory_bytes(file, size)) > MAX_DIRECTORY_BYTES:
        raise UnsafeInputError(f"tensors: wanted an archive directory of {MAX_DIRECTORY_BYTES} bytes, found {found}")
    try:
        archive = zipfile.ZipFile(file)
        names = checked_names(archive, size)
        if names["data.pkl"].file_size > MAX_PICKLE_BYTES:
            raise UnsafeInputError(f"data.pkl: wanted at most {MAX_PICKLE_BYTES} bytes, found more")
        small: list[str] = [name for name in ("data.pkl", "byteorder") if name in names]
        entries = {name: archive.read(names[name]) for name in small}
        value = _Outline(entries, archive=archive, names=names).run(entries["data.pkl"])
    except UnsafeInputError:
        raise
    except Exception as error:
        # As in archive and safety: hostile bytes are answered with many unrelated exceptions.
        raise UnsafeInputError(f"tensors: corrupt or truncated: {in_words(error)}") from None
    if not isinstance(value, dict):
        raise UnsafeInputError("tensors: wanted a dict of tensors, found something else")
    return {name: tensor for name, tensor in value.items() if isinstance(tensor, Tensor)}


def _directory_bytes(file: BinaryIO, size: int) -> int:
    """What the archive claims its directory to be, before zipfile reads all of it: the most of its end records."""
    file.seek(max(0, size - (1 << 16) - 128))
    tail = file.read()
    most = 0
    for at in {len(tail) - 22, tail.rfind(b"PK\5\6")}:
        if at < 0 or tail[at : at + 4] != b"PK\5\6" or len(tail) < at + 22:
            continue
        said = int.from_bytes(tail[at + 12 : at + 16], "little")
        if at >= 76 and tail[at - 20 : at - 16] == b"PK\6\7":
            said = int.from_bytes(tail[at - 36 : at - 28], "little")
        most = max(most, said)
    return most


@dataclass(frozen=True)
class _Storage:
    """Where the numbers of a tensor lie: data/`key`, `count` of them."""

    kind: str
    key: str
    count: int


@dataclass
class _Outline(Machine):
    """The stack machine of `safety`, with tensors left as their outlines."""

    archive: Any = None
    names: Any = None

    def step(self, name: str, argument: Any) -> None:
        if name == "GLOBAL" and (argument in _REBUILDS or _TYPES.fullmatch(argument)):
            self.stack.append(Global(argument))
        elif name == "REDUCE" and isinstance(self.stack[-2], Global) and self.stack[-2].name in _REBUILDS:
            arguments = self.stack.pop()
            self.stack[-1] = self._outline(*arguments[:4])
        else:
            super().step(name, argument)

    def storage(self, reference: Any) -> _Storage:
        tag, kind, key, _, count = reference
        sane = isinstance(kind, Global) and isinstance(key, str) and isinstance(count, int)
        if tag != "storage" or not sane:
            raise UnsafeInputError("data.pkl: a persistent id that is not a tensor storage")
        return _Storage(kind.name.rpartition(" ")[2], key, count)

    def _outline(self, storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple):
            raise UnsafeInputError("data.pkl: a tensor without a storage or a shape")
        sizes = checked_shape(shape)
        return Tensor(sizes, storage.kind, lambda: self._read(storage, offset, sizes, strides))

    def _read(self, storage: _Storage, offset: Any, shape: tuple[int, ...], strides: Any) -> IntArray:
        if storage.kind not in _INTEGERS:
            raise UnsafeInputError(f"wanted an int32 or int64 tensor, found {storage.kind[:40]!r}")
        dtype = np.dtype((">" if self.entries.get("byteorder") == b"big" else "<") + _INTEGERS[storage.kind])
        info = self.names.get(f"data/{storage.key}")
        found = 0 if info is None else info.file_size
        if info is None or found != storage.count * dtype.itemsize or found > MAX_FILE_BYTES:
            raise UnsafeInputError(f"data/{storage.key[:20]}: wanted {storage.count} integers, found {found} bytes")
        try:
            flat = np.frombuffer(self.archive.read(info), dtype).astype(dtype.newbyteorder("="), copy=False)
            values: IntArray = tensor_view(flat, offset, shape, strides)
        except UnsafeInputError:
            raise
        except Exception as error:
            raise UnsafeInputError(f"data/{storage.key[:20]}: {type(error).__name__}: {error}") from None
        return values


def checked_shape(shape: Any) -> tuple[int, ...]:
    """A list or tuple as a shape: at most 8 sizes, none negative or absurd. Raises UnsafeInputError."""
    sizes = tuple(shape) if isinstance(shape, list | tuple) else (-1,)
    if len(sizes) > MAX_DIMENSIONS or not all(type(size) is int and 0 <= size <= MAX_SIZE for size in sizes):
        raise UnsafeInputError(f"a tensor's shape: wanted at most {MAX_DIMENSIONS} sizes, found {str(shape)[:80]}")
    return sizes
