"""Variants of the cases: other wrappings, other orders, other texts. Asserted on values."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable

import pytest

from g4diag.dump import server_log
from g4diag.logs import devices, facts, story, xid
from g4diag.logs.reading import Log, read_log
from g4diag.model.log import (
    AsyncAssert,
    Batches,
    DeviceAsserts,
    Ended,
    OutOfMemory,
    Raised,
    Retractions,
    ServerArgs,
    Stack,
    TimedOut,
    Xid,
)

BODY = """\
Traceback (most recent call last):
  File "/site/sglang/srt/managers/scheduler.py", line 2900, in run_event_loop
    self.event_loop_overlap()
  File "/site/sglang/srt/speculative/eagle_worker.py", line 77, in verify
    accept = accept.cpu()
torch.AcceleratorError: CUDA error: an illegal memory access was encountered
"""


def read(text: str | bytes, name: str = "x.log") -> Log:
    raw = text.encode() if isinstance(text, str) else text
    return read_log(io.BytesIO(raw), name)


def raised(log: Log) -> list[Raised]:
    return [event for event in log.events if isinstance(event, Raised)]


def each(line: Callable[[str], str], head: str = "[2026-06-01 01:00:00 TP1] Scheduler hit an exception: ") -> str:
    return "".join(line(part) + "\n" for part in (head + BODY).splitlines())


def _docker(line: str) -> str:
    return json.dumps({"log": f"{line}\n", "stream": "stderr", "time": "2026-06-01T01:00:00.5Z"})


def _journal_json(line: str) -> str:
    return json.dumps({"MESSAGE": line, "_PID": "77", "__REALTIME_TIMESTAMP": "1780275600000000"})


WRAPPINGS: dict[str, Callable[[str], str]] = {
    "bare": lambda line: line,
    "docker json": _docker,
    "journalctl -o json": _journal_json,
    "cri": lambda line: f"2026-06-01T01:00:00.000000001+00:00 stdout F {line}",
    "docker logs -t": lambda line: f"2026-06-01T01:00:00.123Z {line}",
    "kubectl --timestamps": lambda line: f"2026-06-01T01:00:00Z {line}",
    "kubectl --prefix": lambda line: f"[pod/sglang-0/server] {line}",
    "compose": lambda line: f"sglang-1  | {line}",
    "compose in kubectl's times": lambda line: f"2026-06-01T01:00:00Z sglang-1  | {line}",
    "journald": lambda line: f"Jun  1 01:00:00 host sglang[77]: {line}",
    "journald short-iso": lambda line: f"2026-06-01T01:00:00+0000 host sglang[77]: {line}",
    "ray": lambda line: f"(SchedulerActor pid=77, ip=10.0.0.7) {line}",
    "ray, coloured": lambda line: f"\x1b[36m(SchedulerActor pid=77)\x1b[0m {line}",
    "mpirun": lambda line: f"[1,3]<stderr>:{line}",
    "torchrun": lambda line: f"[rank1]: {line}",
    "double": lambda line: f"[2026-06-01 09:00:00] [/bin/sh@<0,0>]: {line}",
    "python logging": lambda line: f"2026-06-01 01:00:00,123 - launcher - ERROR - {line}",
    "box": lambda line: f"│ {line:<110} │",
    "journald around docker": lambda line: f"Jun  1 01:00:00 host dockerd[9]: {_docker(line)}",
    "crlf": lambda line: f"{line}\r",
    "progress bar before": lambda line: f"Capturing batches:  50%|█████     | 3/6\r{line}",
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_wrapping_hides_nothing(wrapping: str) -> None:
    (event,) = raised(read(each(WRAPPINGS[wrapping])))
    assert event.surfaced is not None and event.surfaced.where == "eagle_worker.py:77"
    assert (event.rank, event.tp) == ("TP1", 1) and event.killed.name == "AcceleratorError"
    assert event.device is not None and event.device.code == "cudaErrorIllegalAddress"
    assert event.time == pytest.approx(1780275600, abs=1) and event.clock in ("local", "zone")


PACKED = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
CODES: dict[str, Callable[[str], bytes]] = {
    **{name: (lambda text, pack=pack: pack(text.encode())) for name, pack in PACKED.items()},
    "two gz members": lambda text: gzip.compress(text[:300].encode()) + gzip.compress(text[300:].encode()),
    "utf-16-le": lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
    "utf-16-be": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-16 unmarked": lambda text: text.encode("utf-16-le"),
    "utf-8 marked": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "a hole of NULs": lambda text: b"\0" * 5000 + text.encode(),
    "NULs inside": lambda text: text.encode().replace(b"\n", b"\n\0\0"),
    "gz of utf-16": lambda text: gzip.compress(text.encode("utf-16")),
    "no last line end": lambda text: text.rstrip("\n").encode(),
}


@pytest.mark.parametrize("code", CODES)
def test_every_packing_is_read(code: str) -> None:
    log = read(CODES[code](each(lambda line: line)))
    (event,) = raised(log)
    assert event.surfaced is not None and event.surfaced.where == "eagle_worker.py:77" and not log.unread


def test_zstd_is_read_where_its_package_is() -> None:
    zstandard = pytest.importorskip("zstandard")
    log = read(zstandard.ZstdCompressor().compress(each(lambda line: line).encode()))
    assert len(raised(log)) == 1 and not log.unread


def test_what_is_cut_off_is_read_up_to_there_and_said() -> None:
    packed = gzip.compress((each(lambda line: line) + "".join(f"noise {n * n}\n" for n in range(90_000))).encode())
    log = read(packed[: len(packed) - 2000])
    assert len(raised(log)) == 1 and "broken or cut off" in log.unread


@pytest.mark.parametrize("name", ["gz", "xz"])
def test_a_short_log_that_is_cut_off_is_read_up_to_there_too(name: str) -> None:
    log = read(PACKED[name](each(lambda line: line).encode())[:-20])
    assert len(raised(log)) == 1 and f"its {name} data is broken or cut off" in log.unread


@pytest.mark.parametrize("known", [*devices._KNOWN.values()], ids=lambda known: known.code)
def test_every_cuda_error_text(known: devices.DeviceError) -> None:
    text = f"RuntimeError: CUDA error: {known.code if known.code.isupper() or '_' in known.code else known.says}"
    (event,) = raised(read(text + "\n"))
    assert event.device is not None and event.device.code == known.code
    (crash,) = story.of((event,))
    assert crash.blame.how == known.blame and crash.hardware is known.hardware


@pytest.mark.parametrize(
    ("message", "blame", "place"),
    [
        ("RuntimeError: Triton Error [CUDA]: an illegal memory access was encountered", "waited", ""),
        ("RuntimeError: fmhaKernels.cuh:212: Failed to launch kernel: invalid argument", "launch", "fmhaKernels.cuh:212"),  # noqa: E501
        ("RuntimeError: BatchDecode failed at decode.cu:77 with error an illegal memory access was encountered", *("launch", "decode.cu:77")),  # noqa: E501
        ("torch.AcceleratorError: CUDA error: misaligned address", "waited", ""),
        ("RuntimeError: CUDA driver error: an illegal instruction was encountered", "waited", ""),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(`", "waited", ""),
        ("torch.AcceleratorError: CUDA error: the launch timed out and was terminated", "waited", ""),
        ("RuntimeError: CUDA error: something that nobody has seen", "waited", ""),
    ],
)  # fmt: skip
def test_who_is_to_blame(message: str, blame: str, place: str) -> None:
    (crash,) = story.of(read(message + "\n").events)
    assert crash.blame.how == blame and crash.blame.device is not None and crash.blame.device.place == place


def test_where_launches_wait_the_launch_itself_failed() -> None:
    text = each(lambda line: line)
    hint = "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
    assert story.of(read(text + hint).events)[0].blame.how == "waited"
    assert story.of(read("+ export CUDA_LAUNCH_BLOCKING=1\n" + text).events)[0].blame.how == "launch"


def test_the_last_of_a_chain_killed() -> None:
    text = BODY.replace("torch.AcceleratorError: CUDA error: an illegal memory access was encountered", "KeyError: 7")
    text += "\nDuring handling of the above exception, another exception occurred:\n\n" + BODY
    (event,) = raised(read("[2026-06-01 01:00:00 TP1] " + text))
    assert [link.name for link in event.chain] == ["KeyError", "AcceleratorError"] and event.killed.how == "during"
    assert event.device is not None
    text = text.replace("During handling of", "The above exception was the direct cause of the following exception:\n#")
    (event,) = raised(read(text.replace("# the above exception, another exception occurred:", "")))
    assert event.killed.how == "cause" and len(event.chain) == 2


def test_an_exception_group_and_a_custom_class() -> None:
    text = "\n".join("  | " + line for line in BODY.splitlines()).replace("  | Trace", "  + Exception Group Trace")
    assert raised(read(text + "\n"))[0].killed.name == "AcceleratorError"
    odd = BODY.replace("torch.AcceleratorError: CUDA error: an illegal memory access was encountered", "my.Oops")
    (event,) = raised(read(odd))
    assert (event.killed.name, event.killed.message) == ("Oops", "")


def test_interleaved_ranks_stay_apart() -> None:
    one, two = ([f"(Worker_TP{n} pid={n}) {line}" for line in BODY.replace("77", str(n)).splitlines()] for n in (1, 2))
    log = read("\n".join(line for pair in zip(one, two, strict=True) for line in pair) + "\n")
    found = [(event.rank, event.surfaced and event.surfaced.where, len(event.killed.frames)) for event in raised(log)]
    assert found == [("TP1", "eagle_worker.py:1", 2), ("TP2", "eagle_worker.py:2", 2)]
    (crash,) = story.of(log.events)
    assert crash.ranks == ("TP1", "TP2")


def test_a_line_of_another_rank_inside_a_traceback_takes_nothing() -> None:
    lines = ("[2026-06-01 01:00:00 TP1] Scheduler hit an exception: " + BODY).splitlines()
    lines.insert(3, "[2026-06-01 01:00:00 TP0] Decode batch, #running-req: 4, token usage: 0.1, #queue-req: 0")
    (event,) = raised(read("\n".join(lines) + "\n"))
    assert event.rank == "TP1" and len(event.killed.frames) == 2


def test_by_time_and_not_by_line_where_times_tell() -> None:
    late = "[2026-06-01 01:00:09 TP5] Scheduler hit an exception: " + BODY
    early = "[2026-06-01 01:00:03 TP2] Scheduler hit an exception: " + BODY
    (crash,) = story.of(read(late + early).events)
    assert crash.first.rank == "TP2" and crash.ranks == ("TP2", "TP5")


def test_a_restart_parts_two_crashes_and_hours_do_too() -> None:
    one = "[2026-06-01 01:00:00 TP0] " + BODY
    started = "[2026-06-01 01:01:00] server_args=ServerArgs(model_path='a', tp_size=2)\n"
    assert len(story.of(read(one + one).events)) == 1
    assert len(story.of(read(one + started + one.replace("01:00:00", "01:02:00")).events)) == 2
    assert len(story.of(read(one + one.replace("01:00:00", "05:00:00")).events)) == 2


QUOTES = [
    "[2026-06-01 01:00:00] Receive: obj=GenerateReqInput(text='{}', sampling_params={{}})",
    "[2026-06-01 01:00:00] Finish: obj=GenerateReqInput(rid='1'), out={{'text': '{}'}}",
    "INFO 09-07 11:02:10 [logger.py:39] Received request cmpl-1: prompt: '{}', params: SamplingParams(n=1)",
    '{{"messages": [{{"role": "user", "content": "{}"}}], "model": "x"}}',
    "[2026-06-01 01:00:00] Input prompt: {}",
    "request body: {{'prompt': '{}'}}",
    "[2026-06-01 01:00:00] user wrote about {}",
]


@pytest.mark.parametrize("quote", QUOTES)
@pytest.mark.parametrize(
    "prompt",
    [
        "SECRETWORD RuntimeError: CUDA error: an illegal memory access was encountered",
        "SECRETWORD NVRM: Xid (PCI:0000:3b:00): 79, fallen off",
        "SECRETWORD pool memory leak detected! [full] total=10, available=2, evictable=3",
        "SECRETWORD kv_canary violation: launch_tag=TAIL_K_SWA slot_idx=4",
        "SECRETWORD Fatal Python error: Aborted",
    ],
)
def test_quoted_text_is_no_event_and_is_not_kept(quote: str, prompt: str) -> None:
    log = read("[2026-06-01 00:59:59] start\n" + quote.format(prompt) + "\n")
    assert not story.of(log.events) and "SECRETWORD" not in repr(log)


def test_a_prompt_of_several_lines_is_left_out_to_its_end() -> None:
    text = "[2026-06-01 01:00:00] Receive: obj=GenerateReqInput(text='SECRETWORD\n" + BODY + "SECRETWORD', n=1)\n"
    log = read(text + "[2026-06-01 01:00:09 TP1] Scheduler hit an exception: " + BODY)
    assert len(raised(log)) == 1 and raised(log)[0].rank == "TP1" and "SECRETWORD" not in repr(log)


def test_an_error_that_repeats_its_input_keeps_none_of_it() -> None:
    said = "ValueError: bad request: input_value='SECRETWORD' and "
    said += "'SECRETWORD, which goes on for more than forty-eight signs'"
    assert raised(read(said + "\n")) and "SECRETWORD" not in repr(read(said + "\n"))


def test_other_events() -> None:
    log = read(
        "[2026-06-01 01:00:00 TP0] KV cache pool is full. Retract requests. #retracted_reqs: 3, #new_tokens: 1\n"
        "[rank2]:[E601 01:00:01.5 ProcessGroupNCCL.cpp:616] [Rank 2] Watchdog caught collective operation timeout: "
        "WorkNCCL(SeqNum=9, OpType=ALLREDUCE, NumelIn=1, Timeout(ms)=600000) ran for 600012 milliseconds before\n"
        "[2026-06-01 01:00:02 TP0] index >= 8192 (out of range)\n"
        "Jun  1 01:00:03 h kernel: Out of memory: Killed process 77 (sglang::schedul) total-vm:1kB\n"
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has\n"
        "Segmentation fault (core dumped)\n"
    )
    by_type = {type(event): event for event in log.events}
    assert by_type[Retractions].requests == 3  # type: ignore[attr-defined]
    timed_out = by_type[TimedOut]
    assert isinstance(timed_out, TimedOut) and (timed_out.operation, timed_out.seconds) == ("ALLREDUCE", 600)
    assert AsyncAssert in by_type and isinstance(by_type[Ended], Ended) and by_type[Ended].signal == 11
    memory = [(event.of, event.tried) for event in log.events if isinstance(event, OutOfMemory)]
    assert memory == [("host", None), ("device", 3 << 29)]


def test_assertions_are_folded_with_their_count() -> None:
    line = "/x/IndexKernel.cu:93: operator(): block: [1,0,0], thread: [{},0,0] Assertion `index < sizes[i]` failed.\n"
    (event,) = read("".join(line.format(n) for n in range(2000))).events
    assert isinstance(event, DeviceAsserts) and event.count == 2000 and event.thread == (0, 0, 0)


def test_py_spy_and_faulthandler_name_the_main_thread() -> None:
    spy = (
        'Thread 77 (idle): "MainThread"\n    recv (sglang/srt/managers/scheduler.py:120)\n    <module> (<string>:1)\n'
        'Thread 78 (active): "watch"\n    wait (threading.py:359)\n'
    )
    first, second = (event for event in read(spy).events if isinstance(event, Stack))
    assert first.main and first.surfaced is not None and first.surfaced.where == "scheduler.py:120" and not second.main


def test_server_args_of_two_engines_hold_no_secret() -> None:
    text = "[2026-06-01 01:00:00] server_args=ServerArgs(model_path='google/gemma-4-E4B-it', api_key='SECRETWORD', "
    text += (
        "attention_backend='fa3', speculative_algorithm='EAGLE3', speculative_eagle_topk=4, page_size=1, tp_size=8, "
    )
    text += "disable_cuda_graph=True, hf_token='SECRETWORD', swa_full_tokens_ratio=0.15)\n"
    log = read(text)
    told = facts.of(log.events)
    assert (told.attention, told.algorithm, told.topk, told.tp) == (("fa3",), "eagle3", 4, 8)
    assert told.flags["disable-cuda-graph"] == "" and told.swa_ratio == 0.15 and "SECRETWORD" not in repr(log)
    words = told.words()
    assert words["topk"] == {"tree"} and words["graphs"] == {"off"} and words["model"] == {"gemma4"}
    vllm = "(APIServer pid=1) INFO 09-07 11:00:00 [utils.py:233] "
    vllm += "non-default args: {'model': 'x/y', 'max_model_len': 4096}\n"
    (args,) = (event for event in read(vllm).events if isinstance(event, ServerArgs))
    assert args.values["model"] == "x/y" and facts.of(read(vllm).events).model == "x/y"


def test_xids_with_their_access_and_order() -> None:
    fault = "NVRM: Xid (PCI:0000:41:00): 31, pid=7, name=x, Ch 1, intr 0. MMU Fault: ENGINE G faulted @ 0x7f_1. "
    fault += "Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ"
    text = f"Jun  1 01:00:01 h kernel: [5.000000] {fault}\n[2026-06-01 01:00:02 TP0] {BODY}"
    text += "[2026-06-01 01:05:00] later\nJun  1 01:09:00 h kernel: [600.000000] "
    text += "NVRM: Xid (PCI:0000:41:00): 45, pid=7, name=x, Ch 2\n"
    first, last = xid.triage(read(text).events)
    assert (first.event.access, first.event.address, first.order) == ("read", "0x7f_1", "with")
    assert last.event.number == 45 and last.only_follows and last.order == "after"
    assert not xid.hardware((first, last))


@pytest.mark.parametrize("number", [48, 64, 74, 79, 94, 95, 140])
def test_hardware_is_told_from_programs(number: int) -> None:
    (told,) = xid.triage(read(f"[1.000000] NVRM: Xid (PCI:0000:41:00): {number}, pid=7, name=x\n").events)
    assert isinstance(told.event, Xid) and xid.hardware([told]) == (told,)


@pytest.mark.parametrize("number", [63, 92, 156, 62, 119, 143, 149])
def test_what_ends_no_program_or_may_be_software_is_no_fault_of_hardware(number: int) -> None:
    (told,) = xid.triage(read(f"[1.000000] NVRM: Xid (PCI:0000:41:00): {number}, pid=7, name=x\n").events)
    assert told.meaning.means and xid.hardware([told]) == ()


def test_every_xid_says_what_of_it_was_checked() -> None:
    known = xid.meanings()
    assert len(known) >= 25 and all(row.name and row.means and row.do for row in known.values())
    assert {word for row in known.values() for word in row.checked.split()} <= {"means", "do"}
    assert [number for number, row in known.items() if not row.checked] == [61]


def test_an_unknown_xid_is_said_to_be_one() -> None:
    (told,) = xid.triage(read("[1.000000] NVRM: Xid (PCI:0000:41:00): 999, what\n").events)
    assert "not in our table" in told.sentence() and not xid.hardware([told])


HEALTHY = [
    "[2026-06-01 01:00:00 TP0] max_total_num_tokens=8192, chunked_prefill_size=1024, available_gpu_mem=4.2 GB\n" * 3,
    "step 10 loss 2.1\nstep 20 loss 1.9 2026-06-01 01:00:00\n",
    "INFO 09-07 11:02:10 [loggers.py:271] Engine 000: Avg prompt throughput: 0.0 tokens/s\n",
    "[2026-06-01 01:00:00] The server is fired up and ready to roll!\n"
    "[2026-06-01 01:00:01] Gracefully exiting... Remaining 0\n",
    "2026-06-01 01:00:00,1 - t - INFO - ValueError is what a bad flag raises\n",
    "[2026-06-01 01:00:00] memory leak check passed, available_size=5\n",
]


@pytest.mark.parametrize("text", HEALTHY)
def test_innocent_logs_tell_no_crash(text: str) -> None:
    assert story.of(read(text).events) == ()
    incident = server_log.incident_of(read(text), len(text), "x.log")
    assert not incident.faults and not [line for line in incident.log if line.kind not in ("armed",)]


def test_samples_of_decode_lines_are_bounded_and_cover_the_log() -> None:
    line = "[2026-06-01 {:02d}:{:02d}:{:02d} TP0] Decode batch, #running-req: 4, token usage: 0.10, accept len: 2.00\n"
    text = "".join(line.format(n // 3600 % 24, n // 60 % 60, n % 60) for n in range(80_000))
    (batches,) = (event for event in read(text).events if isinstance(event, Batches))
    assert 500 < len(batches.samples) <= 4096
    assert batches.samples[0].line < 50 and batches.samples[-1].line > 79_000
