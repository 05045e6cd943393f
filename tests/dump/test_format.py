"""FORMAT.md says of the log reader what it does."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from pathlib import Path
from typing import Any

import pytest

from g4diag.dump import schema, writer
from g4diag.dump.reader import read_dump
from g4diag.dump.runs import MAX_SLOTS, PLAIN_SLOTS
from g4diag.logs import opening, reading, unwrapping
from g4diag.stack.live import recorder

FORMAT = (Path(__file__).parents[2] / "dumps" / "FORMAT.md").read_text(encoding="utf-8")
LOG = next(line for line in FORMAT.splitlines() if line.startswith("**Server log**"))
LINE = "2026-05-05 02:22:14 Killed\n"


def test_its_figures_are_the_code_s() -> None:
    assert "of a line 64 KiB" in LOG and opening.LINE == unwrapping.WHOLE == 64 << 10
    assert f"counted after {reading._ENOUGH}" in LOG and f"first and last {reading.FIRST} are kept" in LOG
    assert reading.FIRST == reading.LAST
    assert f"the newest {recorder._KEPT_FILES} are kept" in FORMAT
    assert f"At most {writer.MAX_DUMP_BYTES >> 20} MiB" in FORMAT and f"Over {PLAIN_SLOTS} slots" in FORMAT
    assert f"2^{MAX_SLOTS.bit_length() - 1}" in FORMAT and f"# The dump format, version {schema.VERSION}" in FORMAT


@pytest.mark.parametrize(
    "packed",
    [
        str.encode,
        lambda s: gzip.compress(s.encode()),
        lambda s: bz2.compress(s.encode()),
        lambda s: lzma.compress(s.encode()),
        lambda s: s.encode("utf-16"),
        lambda s: b"\0\0" + s.encode() + b"\0",
    ],
)
def test_what_it_says_is_read_is_read(packed: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(packed(LINE * 20))
    assert any("Killed" in event.text for event in read_dump(tmp_path / "x").log)


def test_lines_of_one_shape_are_counted_and_said(tmp_path: Path) -> None:
    text = "".join(
        f"2026-05-05 02:22:14 Scheduler hit an exception: CUDA error: {n:06}\n" for n in range(reading._ENOUGH + 500)
    )
    (tmp_path / "x.log").write_text(text)
    said = " ".join(note for _, note in read_dump(tmp_path / "x.log").notes)
    assert re.search(r"\d+ lines that say the same as 4000 before them", said)
