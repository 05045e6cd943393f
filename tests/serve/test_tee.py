"""The log gets every byte, and so does whoever was reading."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from g4diag.dump.secrets import masker
from g4diag.serve.tee import Tee


def run(tee: Tee, code: str, targets: tuple[int, int]) -> None:
    with tee.streams(targets) as (out, err):
        subprocess.run([sys.executable, "-c", code], stdout=out, stderr=err, check=True)


def test_both_streams_reach_their_targets_and_the_log(tmp_path: Path) -> None:
    out, err = (tmp_path / "out").open("wb"), (tmp_path / "err").open("wb")
    tee = Tee(tmp_path / "x.log")
    code = "import sys; sys.stdout.write('o' * 200000); sys.stderr.buffer.write(b'e\\xff\\n')"
    run(tee, code, (out.fileno(), err.fileno()))
    assert (tmp_path / "out").read_bytes() == b"o" * 200000 and (tmp_path / "err").read_bytes() == b"e\xff\n"
    assert sorted(tee.path.read_bytes()) == sorted(b"o" * 200000 + b"e\xff\n")
    assert len(tee.tail(1000)) == 1000


def test_the_log_is_bounded_and_its_tail_spans_two_files(tmp_path: Path) -> None:
    tee = Tee(tmp_path / "x.log", max_bytes=1000)
    sink = os.open(os.devnull, os.O_WRONLY)
    run(tee, "[print(f'{i:09d}', flush=True) for i in range(500)]", (sink, sink))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
    assert tee.tail(20) == "000000498\n000000499\n"


def test_a_reader_that_left_and_a_full_disk_do_not_reach_the_server(tmp_path: Path) -> None:
    reader, gone = os.pipe()
    os.close(reader)
    tee = Tee(tmp_path / "x.log")
    run(tee, "print('still here', flush=True)", (gone, gone))
    assert tee.tail(100) == "still here\n"


def test_a_terminal_stays_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    tee = Tee(tmp_path / "x.log")
    run(tee, "import sys; print(sys.stdout.isatty())", (theirs, theirs))
    assert tee.tail(100) == "True\n" and b"True" in os.read(ours, 100)


def test_secrets_are_hidden_before_they_reach_the_disk_and_only_there(tmp_path: Path) -> None:
    out = (tmp_path / "out").open("wb")
    tee = Tee(tmp_path / "logs" / "x.log", mask=masker({"plain-word"}))
    code = "print('api_key=s3cr3t-value'); print('a plain-word'); print('token usage: 0.85', end='')"
    run(tee, code, (out.fileno(), out.fileno()))
    assert tee.path.read_text() == "api_key=***\na ***\ntoken usage: 0.85"
    assert b"s3cr3t-value" in (tmp_path / "out").read_bytes()
    assert tee.path.stat().st_mode & 0o777 == 0o600 and tee.path.parent.stat().st_mode & 0o777 == 0o700
