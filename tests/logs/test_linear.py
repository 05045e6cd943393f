"""Every expression over a log is linear: repeated signs cost what their number says, whatever stands before them.

Times are processor times, each against the same text a quarter as long; a machine shared with others is allowed for.
"""

from __future__ import annotations

import io
import time

import pytest

from g4diag.logs import kernels, quoting
from g4diag.logs.reading import kinds, read_log
from g4diag.logs.unwrapping import prefixes, unwrap

MANY = 300_000
SIGNS = [
    "\n",
    " ",
    "\t",
    "[",
    "(",
    "{",
    "<",
    "1",
    "0x",
    "a",
    "a.",
    "a/",
    "_",
    ":",
    ": ",
    "'",
    '"',
    "=",
    ", ",
    "|",
    "│ ",
    "\r",
]
SIGNS += [
    "block: [",
    "index >= ",
    "g4diag armed: {",
    "total=1, ",
    'File "',
    "Traceback (most recent call last): ",
    "#0  ",
]
SIGNS += ["a=1, ", "[full] total=1, available=1, ", "NVRM: Xid (", "pid=", "\\", "-", "--", "\x1b[", "\0", "é", "a b "]
HEADS = [
    "",
    "[2026-06-01 01:00:00 TP0] ",
    "ValueError: pool memory leak detected! ",
    "server_args=ServerArgs(",
    "Decode batch, ",
]
HEADS += ["(Worker pid=1) ", "=========     at ", "kv_canary violation: ", "NVRM: Xid (PCI:0): 31, ", "CUDA error: "]


def seconds(text: str) -> float:
    raw = text.encode()
    began = time.process_time()
    read_log(io.BytesIO(raw), "x.log")
    return time.process_time() - began


@pytest.mark.parametrize("sign", SIGNS, ids=repr)
def test_repeated_signs_in_a_log(sign: str) -> None:
    for head in HEADS:
        assert seconds(head + sign * (MANY // len(sign))) < 5, head


@pytest.mark.parametrize("sign", SIGNS, ids=repr)
def test_each_prefix_and_each_sign_by_itself(sign: str) -> None:
    text = sign * (60_000 // len(sign))
    began = time.process_time()
    for head in HEADS:
        for prefix in prefixes():
            prefix.take(head + text)
        unwrap(head + text)
        quoting.shows_request(head + text)
        quoting.plain(head + text)
        kernels.kernel(head + text)
    assert time.process_time() - began < 5 and len(prefixes()) >= 17 and len(kinds()) >= 20


def test_many_long_lines() -> None:
    assert seconds(("block: [0,0,0], thread: [0,0,0] Assertion `" * 48 + "\n") * 1000) < 10
    assert seconds(("a.b." * 1000 + "\n") * 500) < 10
