"""The flight recorder's file: whole after a SIGKILL but for the last record, and harmless whatever is in it."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from g4diag.analyzers import inspect_file
from g4diag.dump import ring
from g4diag.dump.ring import HEADER_BYTES, NUMBERS, RECORD_BYTES, RingWriter, parse_ring, read_ring
from g4diag.errors import UnsafeInputError, UsageError

KILLS = 24
SMALL = HEADER_BYTES + 8 * RECORD_BYTES
ABOUT = {"process": "sglang::scheduler", "manifest": {"traps": ["x"]}, "versions": {"sglang": "0.5.13"}}


def numbers(step: int) -> list[int]:
    return [step, *range(1, len(NUMBERS) - 1)]


def written(path: Path, count: int, max_bytes: int = SMALL) -> RingWriter:
    writer = RingWriter(path, ABOUT, max_bytes)
    for step in range(1, count + 1):
        writer.step("DECODE", numbers(step), ["a", "b"])
    return writer


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path / "x.g4ring", ABOUT)
    writer.mark("verdict", "layer=4 é" + "x" * 300, step=3)
    writer.step("DRAFT_EXTEND_V2", numbers(7), [f"request {i}" for i in range(40)])
    found = read_ring(tmp_path / "x.g4ring")
    mark, step = found.records
    assert (mark.kind, mark.step, mark.text[:10]) == ("verdict", 3, "layer=4 éx") and len(mark.text.encode()) == 200
    assert (step.kind, step.mode, step.step, step.batch, step.swa_freed, step.marks) == (
        *("step", "DRAFT_EXTEND_V2", 7, 1, 14, 1),
    )
    assert len(step.rids) == ring.MAX_RIDS and "request" not in str(step)
    assert (found.pid, found.process, found.manifest) == (os.getpid(), ABOUT["process"], ABOUT["manifest"])
    assert writer.tail() == found.records and (found.skipped, found.missing) == (0, 0)
    assert (tmp_path / "x.g4ring").stat().st_size <= ring.MAX_BYTES


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16, 100])
def test_it_wraps_around_and_keeps_the_last(count: int, tmp_path: Path) -> None:
    writer = written(tmp_path / "x", count)
    found = read_ring(tmp_path / "x")
    assert [record.step for record in found.records] == list(range(1, count + 1))[-8:]
    assert (found.skipped, found.missing) == (0, 0) and (tmp_path / "x").stat().st_size == SMALL
    assert writer.tail(3) == found.records[-3:]


def test_ranks_outlive_the_mark_that_the_ring_has_lost(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path / "x", ABOUT, SMALL)
    writer.mark("violation", "before the scheduler ran")
    writer.start("tp_rank=37 pp_rank=0")
    for step in range(1, 200):
        writer.step("DECODE", numbers(step))
        found = read_ring(tmp_path / "x")
        assert found.ranks == "tp_rank=37 pp_rank=0", step
    assert [record.kind for record in found.records].count("ranks") >= 1
    assert ring.incident_of(found).context["ranks"] == found.ranks


def test_all_are_checked_where_few_are_asked_for(tmp_path: Path) -> None:
    written(tmp_path / "x", 8)
    raw = bytearray((tmp_path / "x").read_bytes())
    raw[HEADER_BYTES + RECORD_BYTES] ^= 1
    every, few = parse_ring(bytes(raw)), parse_ring(bytes(raw), 2)
    assert few.records == every.records[-2:] and (few.count, few.skipped, few.missing) == (7, 1, 1)
    assert parse_ring(bytes(raw), 0).records == () and every.count == len(every.records) == 7


def test_blocks_are_reserved_so_that_a_full_disk_cannot_kill_later(tmp_path: Path) -> None:
    RingWriter(tmp_path / "x", ABOUT)
    assert (tmp_path / "x").stat().st_blocks * 512 >= ring.MAX_BYTES - RECORD_BYTES


def test_a_ring_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / ".x.tmp").write_bytes(b"another's")
    with pytest.raises(FileExistsError):
        RingWriter(tmp_path / "x", ABOUT)


@pytest.mark.parametrize("slot", [0, 3, 7])
def test_torn_at_every_byte_only_that_record_is_lost(slot: int, tmp_path: Path) -> None:
    """A copy stopped after `at` bytes: new bytes before, the older record's behind."""
    written(tmp_path / "old", 8 + slot)
    written(tmp_path / "new", 9 + slot)
    old, new = (tmp_path / "old").read_bytes(), (tmp_path / "new").read_bytes()
    start = HEADER_BYTES + slot * RECORD_BYTES
    for at in range(RECORD_BYTES):
        torn = bytearray(old)
        torn[start : start + at] = new[start : start + at]
        if torn[start : start + RECORD_BYTES] == new[start : start + RECORD_BYTES]:
            continue  # the bytes that are missing are the same in both
        found = parse_ring(bytes(torn))
        steps = [record.step for record in found.records]
        assert steps[-7:] == list(range(2 + slot, 9 + slot)) and len(steps) == 8 - found.skipped, at


def test_a_flipped_bit_anywhere_in_a_record_is_told(tmp_path: Path) -> None:
    written(tmp_path / "x", 5)
    good = (tmp_path / "x").read_bytes()
    start = HEADER_BYTES + 2 * RECORD_BYTES
    for at in range(RECORD_BYTES):
        bad = bytearray(good)
        bad[start + at] ^= 1 << at % 8
        found = parse_ring(bytes(bad))
        assert (found.skipped, found.missing, len(found.records)) == (1, 1, 4)


def test_cut_short_it_gives_what_is_there(tmp_path: Path) -> None:
    written(tmp_path / "x", 8)
    good = (tmp_path / "x").read_bytes()
    for length in range(HEADER_BYTES, SMALL, 100):
        assert len(parse_ring(good[:length]).records) == (length - HEADER_BYTES) // RECORD_BYTES
    for length in range(0, HEADER_BYTES, 256):
        with pytest.raises(UnsafeInputError):
            parse_ring(good[:length])


_WRITE = """
import sys; from pathlib import Path; from g4diag.dump import ring
writer = ring.RingWriter(Path(sys.argv[1]), {}, ring.HEADER_BYTES + 64 * ring.RECORD_BYTES)
said, step = sys.stdout.fileno(), 0
import os
while True:
    step += 1
    writer.step("DECODE", [step] * 15, ["r"])
    os.write(said, step.to_bytes(8, "little"))
"""


def test_killed_at_any_moment_at_most_the_last_record_is_lost(tmp_path: Path) -> None:
    """The writer says each step after it was recorded; whatever it said last must be there."""
    rng = random.Random(0)
    for kill in range(KILLS):
        path = tmp_path / f"{kill}.g4ring"
        child = subprocess.Popen([sys.executable, "-c", _WRITE, str(path)], stdout=subprocess.PIPE, bufsize=0)
        assert child.stdout
        said = child.stdout.read(8)
        deadline = time.monotonic() + rng.uniform(0, 0.02)
        while time.monotonic() < deadline:
            said = os.read(child.stdout.fileno(), 1 << 16)[-8:] or said
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read()
        child.wait()
        child.stdout.close()
        last = int.from_bytes(rest[-8:] if len(rest) >= 8 else said, "little")
        found = read_ring(path)
        steps = [record.step for record in found.records]
        assert last <= steps[-1] <= last + 1 and found.missing == 0 and found.skipped <= 1, (kill, last, steps[-3:])
        assert len(steps) >= min(steps[-1], 64) - 1 and steps == list(range(steps[0], steps[-1] + 1))


@given(raw=st.binary(max_size=600))
@example(raw=ring.MAGIC)
def test_random_bytes_are_refused(raw: bytes) -> None:
    for data in (raw, (ring.MAGIC + raw).ljust(HEADER_BYTES + RECORD_BYTES, b"\1")):
        with pytest.raises(UnsafeInputError):
            parse_ring(data)


@given(body=st.binary(min_size=RECORD_BYTES, max_size=4 * RECORD_BYTES), slot=st.integers(0, 7), right=st.booleans())
def test_random_records_under_a_right_header_and_crc(
    body: bytes, slot: int, right: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Even where the checksum is right, what comes out can be stored and shown."""
    raw = bytearray(_good(tmp_path_factory))
    start = HEADER_BYTES + slot * RECORD_BYTES
    data = bytearray(body[:RECORD_BYTES])
    if right:
        struct.pack_into("<Q", data, 0, slot + 1)
        data[16] = 1 + data[16] % 2
        data[-4:] = ring.zlib.crc32(data[:-4]).to_bytes(4, "little")
    raw[start : start + RECORD_BYTES] = data
    found = parse_ring(bytes(raw))
    assert len(found.records) + found.skipped >= 7
    ring.incident_of(found)


def _good(factory: pytest.TempPathFactory, cache: list[bytes] = []) -> bytes:  # noqa: B006
    if not cache:
        path = factory.mktemp("ring") / "x"
        written(path, 8)
        cache.append(path.read_bytes())
    return cache[0]


@pytest.mark.parametrize("at", [8, 12, 16, 20, 24, 32, 40, 48, 52])
@pytest.mark.parametrize("value", [0, 1, 255, 1 << 31, (1 << 32) - 1])
def test_huge_numbers_in_the_header_are_refused_at_once(at: int, value: int, tmp_path: Path) -> None:
    written(tmp_path / "x", 3)
    raw = bytearray((tmp_path / "x").read_bytes())
    before = raw[at : at + 4]
    struct.pack_into("<I", raw, at, value)
    start = time.monotonic()
    if raw[at : at + 4] != before:
        with pytest.raises(UnsafeInputError) as refusal:
            parse_ring(bytes(raw))
        assert "\n" not in str(refusal.value)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    "text", [b"[" * 3000, b'{"manifest": 7}', b'{"process": {}}', b'{"a":' + b"1" * 4030 + b"}", b"[]"]
)
def test_a_header_of_odd_json_with_a_right_checksum(text: bytes) -> None:
    fixed = ring._HEADER.pack(ring.MAGIC, 1, RECORD_BYTES, 8, 1, 1, 1, len(text), 0)[:-4]
    crc = ring.zlib.crc32(fixed + text).to_bytes(4, "little")
    raw = (fixed + crc + text).ljust(HEADER_BYTES, b"\0")
    try:
        parse_ring(raw)
    except UnsafeInputError as error:
        assert "\n" not in str(error)


def test_more_than_the_header_holds_is_left_out(tmp_path: Path) -> None:
    RingWriter(tmp_path / "x", ABOUT | {"versions": {str(i): "x" * 40 for i in range(200)}}, SMALL)
    found = read_ring(tmp_path / "x")
    assert found.versions == {} and found.manifest == ABOUT["manifest"]


def test_inspect_tells_and_does_not_judge(tmp_path: Path) -> None:
    writer = written(tmp_path / "x.g4ring", 5)
    writer.mark("exception", "AcceleratorError", step=5)
    inspection = inspect_file(tmp_path / "x.g4ring")
    said = [finding.text for finding in inspection.of("flight_recorder")]
    assert inspection.outcome.exit_code == 4 and inspection.origin == "g4diag-ring"
    assert said[0].startswith("last step 5: DECODE, 1 requests") and "exception at step 5" in said[-1]


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_ring(tmp_path / "none")
