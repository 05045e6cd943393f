"""Server logs: the lines that speak of a crash, with time, rank and place; whatever else is in them is not kept."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g4diag.dump.reader import read_dump
from g4diag.dump.server_log import read_log
from g4diag.errors import UnsafeInputError
from g4diag.logs import reading
from g4diag.model import Incident, LogEvent, surfaced_at

CRASH = """\
[2026-11-22 10:00:00 TP0] g4diag armed: {"faults": [], "patches": ["patch-e"], "traps": []} pid=17
[2026-11-22 10:00:01 TP0] Prefill batch, #new-seq: 1, a prompt that nobody should keep
[2026-11-22 10:00:02 TP1] KV cache pool is full. Retract requests. #retracted_reqs: 2, #new_tokens_gained: 9
[2026-11-22 10:00:03 TP1] g4diag violation trap=page_table_stays_in_pool layer=4 row=7 value=502 bound=469
[2026-11-22 10:00:04 TP1] Scheduler hit an exception: Traceback (most recent call last):
  File "/site/sglang/srt/managers/scheduler.py", line 2900, in run_event_loop
    self.event_loop_normal()
  File "/site/sglang/srt/layers/sampler.py", line 123, in forward
    probs = torch.softmax(logits, dim=-1)
torch.AcceleratorError: CUDA error: an illegal memory access was encountered
CUDA kernel errors might be asynchronously reported at some other API call
[2026-11-22 10:00:05] Subprocess scheduler (pid=7) crashed with exit code -9. Triggering SIGQUIT for cleanup...
Nov 22 10:00:05 node kernel: NVRM: Xid (PCI:0000:19:00): 31, pid=7, name=sglang::schedul, Ch 0000000a
"""

PROSE = "# Runbook\n\n| sglang 0.5.23, the default | 11.0 GB |\n\nUse the triton attention backend.\n"


def log_of(text: str | bytes, name: str = "server.log") -> Incident | None:
    raw = text.encode() if isinstance(text, str) else text
    return read_log(io.BytesIO(raw), len(raw), name)


def events(text: str | bytes) -> tuple[LogEvent, ...]:
    found = log_of(text)
    assert found is not None
    return found.log


def test_a_crash_is_told_in_order_with_time_rank_and_place(tmp_path: Path) -> None:
    (tmp_path / "anything").write_text(CRASH)
    incident = read_dump(tmp_path / "anything")
    kinds = ["armed", "retract", "violation", "frame", "illegal-access", "exit", "xid"]
    assert incident.origin == "server-log" and [event.kind for event in incident.log] == kinds
    armed, _, violation, frame, illegal, ended, xid = incident.log
    assert violation.rank == illegal.rank == 1 and armed.rank == 0 and ended.rank is None
    assert frame.where == "sampler.py:123" and illegal.source == "anything:10"
    assert violation.time and armed.time and violation.time - armed.time == 3 and illegal.time == violation.time + 1
    assert "Xid" in xid.text and "nobody should keep" not in repr(incident)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("CUDA error: device-side assert triggered", "device-assert"),
        ("/pytorch/aten/x.cu:93: f: block: [0,0,0], thread: [1,0,0] Assertion `i < n` failed.", "device-assert"),
        ("x.cu:9: _assert_async_cuda_kernel: block: [0,0,0], thread: [0,0,0] Assertion `m` failed.", "async-assert"),
        ("Thread 1 received signal CUDA_EXCEPTION_14, Warp Illegal Address.", "illegal-access"),
        ("coredump: CUDBG_EXCEPTION_WARP_ILLEGAL_ADDRESS (14)", "illegal-access"),
        ("IndexError: list index out of range", "exception"),
        ("g4diag NOT ARMED, this server runs without it: no", "armed"),
        ("[2026-11-22 10:40:18] FlashInfer API Call: trtllm_batch_decode_with_kv_cache", "kernel-call"),
        ("[2026-11-22 10:40:18] SGLang Kernel API Call: jit_kernel.norm.rmsnorm", "kernel-call"),
        ("\x1b[31m[2026-11-22 10:40:18] \x1b[0mFatal Python error: Segmentation fault", "exit"),
        ("Killed", "exit"),
    ],
)
def test_every_kind_of_line(line: str, kind: str) -> None:
    (found,) = events(f"starting\n{line}\nmore\n")
    assert found.kind == kind and found.source == "server.log:2" and "\x1b" not in found.text


def test_a_healthy_log_is_a_log_with_nothing_to_say() -> None:
    found = log_of("[2026-11-22 10:00:00] Decode batch, #running-req: 8\n" * 50)
    assert found is not None and found.log == () and "none" in found.notes[0][1]


@pytest.mark.parametrize("text", ["hello\n" * 9, "\x1b[2J" * 9, "import os\n", PROSE])
def test_text_that_is_no_log_is_refused(text: str, tmp_path: Path) -> None:
    assert log_of(text) is None
    (tmp_path / "x").write_text(text)
    with pytest.raises(UnsafeInputError):
        read_dump(tmp_path / "x")


@pytest.mark.parametrize(
    "more",
    ["[2026-11-22 10:00:00] ready\n", "Decode batch, #running-req: 1, #token: 5, accept len: 2.0\n"],
    ids=["a time", "a server's line"],
)
def test_what_is_prose_by_itself_is_a_log_beside_a_line_of_one(more: str) -> None:
    assert log_of(PROSE + more) is not None


def test_what_was_armed_is_no_line_of_a_crash() -> None:
    found = log_of(CRASH)
    assert found is not None
    assert found.notes[0][1] == "lines that speak of a crash: 1 retract, 1 violation, 1 illegal-access, 1 exit, 1 xid"


def test_of_many_lines_the_first_and_the_last_are_kept() -> None:
    lines = [f"IndexError: number {i}" for i in range(3000)]
    found = log_of("\n".join(lines))
    assert found is not None and len(found.log) == reading.FIRST + reading.LAST
    assert found.log[0].text.endswith("number 0") and found.log[-1].text.endswith("number 2999")
    assert f"{3000 - len(found.log)} such lines" in found.notes[1][1]


def test_a_large_log_is_read_whole_and_a_hole_costs_little(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    with path.open("wb") as file:
        file.write(CRASH.encode() + b"serving\n" * 100_000)
        file.seek(256 << 20)
        file.write(b"\nIndexError: the end\n" + b"serving\n" * 100_000)
    start = time.process_time()
    found = read_dump(path)
    assert time.process_time() - start < 20
    assert found.log[-1].text == "IndexError: the end" and found.log[0].kind == "armed"
    assert found.log[-1].source == f"server.log:{CRASH.count(chr(10)) + 100_002}"
    assert not found.unread and not any("not looked at" in text for _, text in found.notes)


@pytest.mark.parametrize(
    "line",
    [
        "IndexError: list index out of range\n",
        "block: [" * 250 + "\n",
        "block: [0,0,0], thread: [0,0,0] Assertion " * 48 + "\n",
    ],
    ids=["many errors", "long lines", "asserts without an end"],
)
def test_a_log_full_of_events_is_read_to_its_end(line: str) -> None:
    raw = (line * (20_000_000 // len(line))).encode()
    start = time.process_time()
    found = log_of(b"Killed\n" + raw + b"Fatal Python error: the end\n")
    assert time.process_time() - start < 20
    assert found is not None and (found.log[0].text, found.log[-1].text) == ("Killed", "Fatal Python error: the end")


def test_lines_are_numbered() -> None:
    lines = ["one", "Killed", "", "four", "Killed"]
    assert [event.source for event in events("\n".join(lines))] == ["server.log:2", "server.log:5"]


def test_lines_without_end_cost_their_beginning() -> None:
    for piece in (b"a.b." * 1_000_000, b"index >= " * 400_000, b"g4diag armed: {" * 200_000, b"block: [" * 400_000):
        start = time.process_time()
        log_of(b"[2026-11-22 10:00:00] " + piece)
        assert time.process_time() - start < 2


@given(raw=st.binary(max_size=400))
def test_any_bytes_are_taken(raw: bytes) -> None:
    found = log_of(raw + b"\nKilled\n")
    assert found is not None and found.log[-1].kind == "exit"
    assert all(event.text.isprintable() for event in found.log)


ABORTED = """\
[10:00:00.1] coredump: Detected an exception of type CUDBG_EXCEPTION_WARP_ILLEGAL_ADDRESS (14)
Fatal Python error: Aborted

Thread 0x00007fa013fff6c0 (most recent call first):
  File "/usr/lib/python3.12/threading.py", line 359 in wait
  File "/usr/lib/python3.12/threading.py", line 1030 in _bootstrap

Thread 0x00007fa582c40300 (most recent call first):
  File "/site/sglang/srt/layers/attention/triton_backend.py", line 1605 in update_sliding_window_buffer
  File "/site/sglang/srt/managers/scheduler.py", line 3110 in run_batch
  File "<string>", line 1 in <module>

Extension modules: numpy._core._multiarray_umath
"""


def test_an_aborted_process_tells_where_its_main_thread_was() -> None:
    found = events(ABORTED)
    assert [event.kind for event in found] == ["illegal-access", "exit", "stack"]
    assert found[-1].where == "triton_backend.py:1605" and surfaced_at(found) == found[-1]


def test_a_traceback_counts_before_a_stack_and_a_bindings_frame_not_at_all() -> None:
    text = CRASH.replace("AcceleratorError: CUDA error: an illegal memory access was encountered", "RuntimeError: x")
    inner = '  File "python/tvm_ffi/cython/function.pxi", line 929, in tvm_ffi.core.Function.__call__\n'
    text = text.replace("torch.RuntimeError: x", f"{inner}RuntimeError: cudaErrorIllegalAddress")
    found = surfaced_at(events(ABORTED + text))
    assert found is not None and found.where == "sampler.py:123"
    assert surfaced_at(()) is None


def test_what_a_log_says_was_armed_is_the_incidents_manifest() -> None:
    other = 'g4diag armed: {"faults": ["faulty-rule"], "patches": [], "traps": []} pid=18\n'
    broken = 'g4diag armed: {"faults": 7} pid=19\ng4diag armed: {oops} pid=20\n'
    incident = log_of(CRASH + other + broken)
    assert incident is not None
    assert incident.manifest == {"faults": ["faulty-rule"], "patches": ["patch-e"], "traps": []}
