"""The live recorder: on the real SWA allocator, and on a scheduler-like class of a synthetic module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag import guard
from g4diag.dump.reader import read_dump
from g4diag.dump.ring import SUFFIX, RingWriter, read_ring
from g4diag.stack.live import recorder, selection
from g4diag.stack.live import sink as live
from tests import samples, synthetic
from tests.releases import moved

MODULE = "g4synthetic_scheduler"
SCHEDULER = """
class Scheduler:
    def __init__(self, allocator, steps):
        self.forward_ct, self.waiting_queue, self.steps = 0, [1, 2], steps
        self.token_to_kv_pool_allocator = allocator
    def run_batch(self, batch):
        self.forward_ct += 1
        return ("ran", batch)
    def run_event_loop(self):
        for step in self.steps:
            if isinstance(step, BaseException):
                raise step
            self.run_batch(step)
"""


def batch(mode: str = "DECODE", count: int = 2, **more: Any) -> SimpleNamespace:
    reqs = [SimpleNamespace(rid=f"secret-{i}") for i in range(count)]
    made = {"forward_mode": SimpleNamespace(name=mode), "extend_num_tokens": None, "seq_lens_sum": None}
    return SimpleNamespace(reqs=reqs, **made | more)


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The class, with the recorder on it and writing to tmp_path."""
    import sys

    module = synthetic.module(MODULE, SCHEDULER)
    places = {f"scheduler__{name}": f"{MODULE}.Scheduler.{name}" for name in ("run_event_loop", "run_batch")}
    release = moved(**places)
    monkeypatch.setattr(recorder, "current_release", lambda: release)
    yield module.Scheduler
    del sys.modules[MODULE]


def pools() -> Any:
    return SimpleNamespace(size_full=100, size_swa=20, full_available_size=lambda: 60, swa_available_size=lambda: 5)


@contextmanager
def hybrid() -> Iterator[Any]:
    """A real SWA allocator over a real pool, as the CPU-driven server has it."""
    from g4diag.stack.drive import cpu
    from g4diag.stack.drive.reference import PagedAttention
    from g4diag.stack.drive.serving import Geometry, Serving

    kernel = PagedAttention()
    with cpu.attention_kernels(kernel.decode, kernel.prefill):
        yield Serving(Geometry(), 0)


def test_a_step_is_a_record(scheduler: Any, tmp_path: Path) -> None:
    with recorder.armed(tmp_path) as on:
        assert on.path is None and not list(tmp_path.iterdir()), "no file before the first record"
        server = scheduler(pools(), [batch("EXTEND", extend_num_tokens=7, seq_lens_sum=90), batch()])
        server.run_event_loop()
        start, extend, decode, end = recorder.tail()
        (file,) = tmp_path.iterdir()
    assert f"-pid{os.getpid()}-" in file.name and file.name.endswith(SUFFIX) and recorder.tail() == ()
    assert (start.kind, end.kind) == ("start", "end")
    assert (extend.mode, extend.step, extend.batch, extend.tokens, extend.seq_len_sum) == ("EXTEND", 1, 2, 7, 90)
    assert (extend.full_size, extend.full_free, extend.swa_size, extend.swa_free) == (100, 60, 20, 5)
    assert (decode.mode, decode.step, decode.tokens, decode.seq_len_sum, decode.waiting) == ("DECODE", 2, -1, -1, 2)
    assert len(decode.rids) == 2 and b"secret" not in file.read_bytes()
    assert read_ring(file).records == (start, extend, decode, end)


def test_the_process_s_ranks_are_told(scheduler: Any, tmp_path: Path) -> None:
    with recorder.armed(tmp_path):
        assert recorder.ranks() == ""
        server = scheduler(pools(), [batch()])
        server.ps = SimpleNamespace(tp_rank=37, pp_rank=0)
        server.run_event_loop()
        assert recorder.ranks() == "tp_rank=37 pp_rank=0"
    assert read_ring(next(tmp_path.iterdir())).ranks == "tp_rank=37 pp_rank=0" and recorder.ranks() == ""


def test_a_plain_pool_is_a_full_one(scheduler: Any, tmp_path: Path) -> None:
    with recorder.armed(tmp_path):
        scheduler(SimpleNamespace(size=100, available_size=lambda: 60), [batch()]).run_event_loop()
        step = recorder.tail()[1]
    assert (step.full_size, step.full_free, step.swa_size) == (100, 60, -1)


def test_an_exception_leaving_the_loop_is_marked_and_left_alone(scheduler: Any, tmp_path: Path) -> None:
    error = ValueError("the prompt was: secret")
    with recorder.armed(tmp_path):
        with pytest.raises(ValueError) as caught:
            scheduler(pools(), [batch(), error]).run_event_loop()
        mark = recorder.tail()[-1]
    assert caught.value is error
    assert (mark.kind, mark.step) == ("exception", 1) and "ValueError" in mark.text and "secret" not in mark.text


def test_cuda_s_own_words_are_kept(scheduler: Any, tmp_path: Path) -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered\nmore")
    with recorder.armed(tmp_path), pytest.raises(RuntimeError):
        scheduler(pools(), [error]).run_event_loop()
    (file,) = tmp_path.iterdir()
    assert "illegal memory access was encountered" in read_ring(file).records[-1].text


@pytest.mark.parametrize("why", ["a scheduler of another shape", "a disk that refuses"])
def test_what_goes_wrong_stays_inside_and_stops_after_three(
    why: str, scheduler: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    guard.set_raising(False)
    folder = tmp_path
    if "disk" in why:
        (tmp_path / "file").write_text("")
        folder = tmp_path / "file"
    odd = pools() if "disk" in why else None
    with recorder.armed(folder):
        server = scheduler(odd, [])
        results = [server.run_batch("x" if odd is None else batch()) for _ in range(10)]
    assert all(result[0] == "ran" for result in results)
    assert len([r for r in caplog.records if r.getMessage().startswith("g4diag: recorder")]) == 3


def test_without_it_marks_cost_nothing_and_there_is_no_hook(scheduler: Any, tmp_path: Path) -> None:
    before = scheduler.run_batch
    recorder.mark("verdict", "x")
    assert recorder.tail() == () and recorder.current() is None
    with recorder.armed(tmp_path):
        assert scheduler.run_batch is not before
    assert scheduler.run_batch is before


def test_what_the_real_allocator_gives_and_takes_is_counted(scheduler: Any, tmp_path: Path) -> None:
    with recorder.armed(tmp_path) as on, hybrid() as serving:
        for rid, ids in serving.prompts():
            while not serving.admit(rid, ids):
                serving.release(serving.running.reqs[0])
            serving.decode()
            if len(serving.running.reqs) >= serving.geometry.live:
                serving.release(serving.running.reqs[0])
        assert on.allocs and on.frees and 0 < on.freed <= on.allocated
        assert on.swa_freed >= on.freed, "slots whose window had passed were freed apart"


def test_ids_put_aside_in_a_free_group_count_once(scheduler: Any, tmp_path: Path) -> None:
    import torch

    with recorder.armed(tmp_path) as on, hybrid() as serving:
        allocator, page = serving.allocator, serving.allocator.page_size
        zero, length = torch.zeros(1, dtype=torch.int64), torch.tensor([2 * page])
        ids = allocator.alloc_extend(zero, zero, length, length, zero - 1, 2 * page)
        assert (on.allocs, on.allocated, on.refused) == (1, 2 * page, 0)
        allocator.free_group_begin()
        allocator.free(ids[:page])
        allocator.free(ids[page:])
        allocator.free_group_end()
        assert (on.freed, on.swa_freed) == (2 * page, 2 * page) and on.frees in (1, 2)
        huge = torch.tensor([allocator.size_full * 2])
        assert allocator.alloc_extend(zero, zero, huge, huge, zero - 1, int(huge)) is None and on.refused == 1


def test_a_dump_carries_the_tail(scheduler: Any, tmp_path: Path) -> None:
    with recorder.armed(tmp_path):
        scheduler(pools(), [batch()]).run_event_loop()
        live.Live([selection.traps()["page_table_stays_in_pool"]], tmp_path).sink(samples.faulty_read())
    (dump,) = tmp_path.glob("*.pt")
    kinds = [record.kind for record in read_dump(dump).ring]
    assert kinds == ["start", "step", "end", "violation"]


def test_a_forked_child_writes_a_file_of_its_own(tmp_path: Path, scheduler: Any) -> None:
    with recorder.armed(tmp_path):
        recorder.mark("one", "parent")
        child = os.fork()
        if not child:
            recorder.mark("two", "child")
            os._exit(0)
        os.waitpid(child, 0)
        recorder.mark("three", "parent")
    found = {ring.pid: [r.kind for r in ring.records] for ring in map(read_ring, tmp_path.iterdir())}
    assert found == {os.getpid(): ["one", "three"], child: ["two"]}


def test_old_rings_are_pruned(tmp_path: Path, scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_KEPT_FILES", 2)
    for _ in range(4):
        with recorder.armed(tmp_path):
            recorder.mark("x", "")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_ring_that_is_still_written_is_not_pruned(tmp_path: Path) -> None:
    """As where a server has more schedulers than rings are kept."""
    writers = [RingWriter(tmp_path / f"ring-{number:03}-pid1{SUFFIX}", {}, 1 << 14) for number in range(70)]
    recorder._prune(tmp_path)
    assert len(list(tmp_path.iterdir())) == 70
    for writer in writers[:10]:
        writer.close()
    recorder._prune(tmp_path)
    assert len(list(tmp_path.iterdir())) == 64 and not writers[0].path.exists() and writers[6].path.exists()


def test_it_fits_the_real_scheduler(tmp_path: Path) -> None:
    with recorder.armed(tmp_path) as on:
        assert len(on.hooks()) >= 7
