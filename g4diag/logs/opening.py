"""A log's bytes as blocks of whole UTF-8 lines, whatever it is packed in: gz, bz2, xz, zst, UTF-16, NUL bytes.

Memory is bounded: a block has some BLOCK bytes, and of a line without an end LINE bytes are kept. What cannot be read
to its end is said, and what was read before that counts.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import importlib
import importlib.util
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from g4diag.errors import UnsafeInputError

BLOCK, LINE = 1 << 20, 1 << 16
_HEAD = 4096
_PACKED = {b"\x1f\x8b\x08": "gz", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_ZST: tuple[tuple[str, Callable[[Any, Any], Any]], ...] = (
    ("compression.zstd", lambda found, source: found.ZstdFile(source)),
    ("zstandard", lambda found, source: found.ZstdDecompressor().stream_reader(source, read_across_frames=True)),
    ("pyzstd", lambda found, source: found.ZstdFile(source)),
)


@dataclass
class Opened:
    """One log on its way. blocks: see `open_log`. packed: "gz" and the like, "" if not. notes: what is odd about it.
    unread: why the rest was not read, "" if all was. size: bytes read, unpacked. cut: lines without their end."""

    packed: str = ""
    notes: list[str] = field(default_factory=list)
    unread: str = ""
    size: int = 0
    cut: int = 0


# Characters of no text: controls but for those that a terminal is sent, and what could not be decoded.
_ODD = re.compile(r"[\x00-\x07\x0b\x0e-\x1a\x1c-\x1f\ufffd]")


def packing(head: bytes) -> str:
    """What a file is packed with, by its first bytes; "" if nothing known."""
    if head.startswith(b"BZh") and head[4:10] == b"1AY&SY":
        return "bz2"
    return next((name for magic, name in _PACKED.items() if head.startswith(magic)), "")


def looks_like_text(head: bytes) -> bool:
    """Whether these first bytes, unpacked, may be a log's: text, with holes of NUL bytes at most."""
    if not head:
        return False
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or _wide(head):
        return True
    text = head.replace(b"\0", b"")
    if not text or (len(text) < len(head) // 2 and head.lstrip(b"\0") != text):
        return False
    shown = text.decode(errors="replace")
    return len(_ODD.findall(shown)) <= len(shown) // 50 + 1


def _wide(head: bytes) -> str:
    """UTF-16 without a mark: every other byte of a text in Latin script is zero."""
    even, odd = head[0:200:2], head[1:200:2]
    if len(odd) < 8:
        return ""
    if odd.count(0) > len(odd) * 0.8 and even.count(0) == 0:
        return "utf-16-le"
    return "utf-16-be" if even.count(0) > len(even) * 0.8 and odd.count(0) == 0 else ""


def unpacked_head(head: bytes) -> bytes:
    """The first bytes of what is packed in a file, by its first bytes; b"" if they do not tell."""
    name = packing(head)
    with_limit: Any = {
        "gz": lambda: zlib.decompressobj(31).decompress(head, _HEAD),
        "bz2": lambda: bz2.BZ2Decompressor().decompress(head, _HEAD),
        "xz": lambda: lzma.LZMADecompressor().decompress(head, _HEAD),
        "zst": lambda: _unpack(io.BytesIO(head), "zst").read(_HEAD),
    }
    try:
        found: bytes = with_limit[name]() if name else head
    except Exception:  # each library has its own
        return b""
    return found


def open_log(file: IO[bytes], opened: Opened) -> Iterator[bytes]:
    """Blocks of whole lines, UTF-8 as far as the log is. `opened` is filled on the way."""
    head = file.read(_HEAD)
    # Text may begin with the same bytes; without a reader for zstd that is said, and nothing is guessed.
    opened.packed = packing(head) if unpacked_head(head) or _lacks_zst(head) else ""
    source: Any = _Again(head, file)
    if opened.packed:
        source = _unpack(source, opened.packed)
    yield from _lines(_pieces(source, opened), opened)


class _Again(io.RawIOBase):
    """A stream whose beginning was read already."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self._head, self._file = head, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            piece, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            piece = self._file.read(len(buffer)) or b""
        buffer[: len(piece)] = piece
        return len(piece)


def _lacks_zst(head: bytes) -> bool:
    """Whether it may be packed with zstd, and no library here reads that."""
    return packing(head) == "zst" and not any(importlib.util.find_spec(name.partition(".")[0]) for name, _ in _ZST)


def _unpack(source: Any, name: str) -> Any:
    """A stream of what is packed in another."""
    buffered = io.BufferedReader(source) if isinstance(source, io.RawIOBase) else source
    if name == "gz":
        return gzip.GzipFile(fileobj=buffered)
    if name == "bz2":
        return bz2.BZ2File(buffered)
    return lzma.LZMAFile(buffered) if name == "xz" else _zst(buffered)


def _zst(source: Any) -> Any:
    """Python 3.14's own, else zstandard's or pyzstd's reader."""
    for module, make in _ZST:
        try:
            return make(importlib.import_module(module), source)
        except ImportError:
            continue
    raise UnsafeInputError("packed with zstd: wanted the package zstandard to read it, found none; or `zstd -d` it")


def _pieces(source: Any, opened: Opened) -> Iterator[bytes]:
    """As it is unpacked, decoded from UTF-16 if it is that."""
    decoder: Any = None
    first = True
    # As much as there is: a read to the full would lose what came before the break.
    read = getattr(source, "read1", source.read)
    while True:
        try:
            piece = read(BLOCK)
        except MemoryError:
            raise
        except Exception as error:  # each library has its own
            opened.unread = f"its {opened.packed or 'end'} data is broken or cut off after {opened.size} bytes"
            opened.notes.append(f"{opened.unread}: {type(error).__name__}")
            return
        if not piece:
            break
        opened.size += len(piece)
        if first:
            first = False
            decoder = _decoder(piece, opened)
            piece = piece.removeprefix(codecs.BOM_UTF8)
        if decoder is not None:
            piece = decoder.decode(piece).encode(errors="replace")
        elif b"\0" in piece:
            piece = piece.replace(b"\0", b"")
        yield piece


def _decoder(piece: bytes, opened: Opened) -> Any:
    wide = "utf-16" if piece.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else _wide(piece)
    if not wide:
        return None
    opened.notes.append("it is UTF-16, as PowerShell writes it")
    return codecs.getincrementaldecoder(wide)(errors="replace")


def _lines(pieces: Iterator[bytes], opened: Opened) -> Iterator[bytes]:
    """Cut where a line ends; of a line that does not, its beginning."""
    rest, skipping = b"", False
    for piece in pieces:
        if skipping:
            end = piece.find(b"\n")
            if end < 0:
                continue
            piece, skipping = piece[end:], False
        block = rest + piece
        end = block.rfind(b"\n") + 1
        block, rest = block[:end], block[end:]
        if len(rest) > LINE:
            rest, skipping = rest[:LINE], True
            opened.cut += 1
        if block:
            yield block
    if rest:
        yield rest
