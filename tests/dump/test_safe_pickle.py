"""Hostile, torn and foreign files: refused in one line, nothing executed, nothing large allocated."""

from __future__ import annotations

import io
import os
import pickle
import random
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from g4diag.dump.reader import read_dump
from g4diag.dump.safe_pickle import parse_plain
from g4diag.dump.torch_zip import MAX_FILE_BYTES
from g4diag.dump.writer import write_dump
from g4diag.errors import UnsafeInputError, UsageError
from g4diag.model import Incident
from tests import samples


def torch_bytes(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def rezip(raw: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The archive again with every entry passed through `change`, checksums right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def with_program(program: bytes) -> bytes:
    return rezip(torch_bytes({"a": 1}), lambda name, data: program if name.endswith("data.pkl") else data)


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, function: Callable[..., Any], argument: str) -> None:
        self.call = function, (argument,)

    def __reduce__(self) -> Any:
        return self.call


@pytest.fixture
def small(tmp_path: Path) -> bytes:
    tiny = Incident("g4diag", reads=(samples.healthy_read(mapping=None, full_page_table_BP=None),))
    return write_dump(tiny, tmp_path / "small.pt").read_bytes()


def test_truncated_at_every_length(small: bytes) -> None:
    for length in range(len(small)):
        with pytest.raises(UnsafeInputError):
            parse_plain(small[:length])


def test_bit_flips_never_surprise(small: bytes, tmp_path: Path) -> None:
    """A flip is refused, or falls on padding and changes nothing that is read."""
    path, good, rng = tmp_path / "flip.pt", read_dump(tmp_path / "small.pt"), random.Random(0)
    for _ in range(400):
        flipped = bytearray(small)
        flipped[rng.randrange(len(small))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            assert samples.same(read_dump(path), good)
        except UnsafeInputError as error:
            assert "\n" not in str(error)


def test_flips_inside_the_program_with_a_right_checksum(small: bytes, tmp_path: Path) -> None:
    """Past the checksum, only UnsafeInputError or an incident comes out."""
    path, rng = tmp_path / "flip.pt", random.Random(1)

    def flip(name: str, data: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return data
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(changed)

    refused = 0
    for _ in range(400):
        path.write_bytes(rezip(small, flip))
        try:
            read_dump(path)
        except UnsafeInputError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("function", [os.system, eval, exec], ids=lambda f: f.__name__)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["in a zip", "bare"])
def test_malicious_pickle_is_not_executed(function: Any, protocol: int, zipped: bool, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    code = f"touch {witness}" if function is os.system else f"open({str(witness)!r}, 'w')"
    program = pickle.dumps({"format": "g4diag-dump", "version": 1, "x": Evil(function, code)}, protocol)
    path = tmp_path / "evil.pt"
    path.write_bytes(with_program(program) if zipped else program)
    with pytest.raises(UnsafeInputError) as refusal:
        read_dump(path)
    assert not witness.exists() and "\n" not in str(refusal.value)
    if zipped and protocol == 2:
        assert function.__name__ in str(refusal.value), "says which global"
    pickle.loads(program) if function is not os.system else os.system(code)
    assert witness.exists(), "the attack itself works"


def test_old_style_torch_file_is_refused() -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(1)}, buffer, _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafeInputError, match=r"pre-1\.6"):
        parse_plain(buffer.getvalue())


def test_zip_bomb_is_refused_before_allocation(small: bytes) -> None:
    bomb = rezip(small, lambda name, data: bytes(200 << 20) if name.endswith("/data/0") else data, zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    with pytest.raises(UnsafeInputError, match="wanted stored bytes"):
        parse_plain(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "archive/../../x", "archive/code/x.py", "a\\b/data.pkl"])
def test_path_tricks(name: str, small: bytes) -> None:
    out = io.BytesIO(small)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(UnsafeInputError, match="archive entry"):
        parse_plain(out.getvalue())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_twice(small: bytes) -> None:
    out = io.BytesIO(small)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("archive/data.pkl", b"x")
    with pytest.raises(UnsafeInputError, match="present twice"):
        parse_plain(out.getvalue())


def test_tensor_cannot_claim_more_than_it_has() -> None:
    raw = torch_bytes({"t": torch.arange(5)})
    lies = {b"K\x05tq": b"M\x00\xf0tq", b"K\x05\x85": b"M\x00\xf0\x85", b"K\x00K\x05\x85": b"K\x03K\x05\x85"}
    for true, lie in lies.items():
        with pytest.raises(UnsafeInputError, match=r"data"):
            parse_plain(
                rezip(raw, lambda name, data, t=true, x=lie: data.replace(t, x, 1) if "data.pkl" in name else data)
            )


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02]q\x00h\x00a.",  # a list inside itself
        b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",  # a dict inside itself: allowed here, never followed
        b"\x80\x02]q\x00" + b"(" + b"h\x00" * 1000 + b"l.",
        b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".",
        b"\x80\x02h\x07.",
        b"\x80\x02.",
        b"\x80\x02}}u.",
        b"",
    ],
)
def test_odd_programs(program: bytes, tmp_path: Path) -> None:
    (tmp_path / "odd.pt").write_bytes(with_program(program))
    with pytest.raises(UnsafeInputError):
        read_dump(tmp_path / "odd.pt")


def test_strided_and_shared_tensors_are_read_right() -> None:
    base = torch.arange(24, dtype=torch.int32).reshape(4, 6)
    value = {"slice": base[1:, ::2], "t": base.T, "bool": torch.tensor([True, False]), "f": torch.ones(2), "n": None}
    plain = parse_plain(torch_bytes(value))
    for name in ("slice", "t", "bool", "f"):
        assert plain[name].tolist() == value[name].tolist()


def test_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "fifo", Path("/dev/zero"), Path("nul\0name")):
        with pytest.raises(UsageError):
            read_dump(path)


def test_too_large_a_file(tmp_path: Path) -> None:
    with (tmp_path / "large.pt").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(UnsafeInputError, match="file size"):
        read_dump(tmp_path / "large.pt")
