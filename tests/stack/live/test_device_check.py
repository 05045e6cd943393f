"""The device check on the CPU-driven stack: the same kernel, interpreted; levels, steps, and what outlives a crash."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from g4diag.analyzers import inspect_file
from g4diag.errors import TrapTripped
from g4diag.hooks.install import Hook, install
from g4diag.model import IndexSpace, LayerKind, PoolView
from g4diag.patches.applying import applied
from g4diag.stack.backends.trtllm_mha import ATTENTION
from g4diag.stack.drive import cpu
from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.reference import PagedAttention
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.live.device_check import DeviceCheck
from g4diag.stack.live.device_sites import Site
from g4diag.stack.live.scheduler_hooks import IdleWork, Steps
from g4diag.stack.live.selection import traps
from g4diag.stack.live.sink import Live
from g4diag.stack.probes.workers import Backends

PAGE_TABLE = ("page_table_stays_in_pool", "page_table_in_layer_space")


@contextmanager
def server(live: Live, *patches: str, extra: tuple[Hook, ...] = ()) -> Iterator[tuple[Serving, FrozenDraft, Any]]:
    """Server and draft with `live` armed, and the kernel that counts."""
    kernel = PagedAttention()
    with (
        applied(patches),
        install("faults", extra),
        install("traps", live.hooks()),
        cpu.attention_kernels(kernel.decode, kernel.prefill),
    ):
        serving = Serving(Geometry(requests=3), seed=0)
        yield serving, FrozenDraft(serving), kernel


def armed(tmp_path: Path, level: str = "warn", every: int = 1) -> Live:
    """The two page-table traps on the device."""
    return Live([traps()[name] for name in PAGE_TABLE], tmp_path, level=level, every=every, on_device=True)


def served(live: Live, serving: Serving, draft: FrozenDraft, path: str = "graph") -> list[torch.Tensor]:
    """Three requests, a draft after each; the scheduler's edges as steps."""
    tokens = []
    for rid, ids in serving.prompts():
        live.begin_step()
        serving.admit(rid, ids)
        tokens.append(getattr(draft, path)())
        serving.decode()
        live.end_step(serving.rid_of)
    return tokens


@pytest.mark.parametrize("path", ["eager", "graph"])
def test_a_faulty_draft_is_named_once_logged_and_dumped(
    path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = armed(tmp_path)
    with server(live, "faulty-rule") as (serving, draft, _):
        served(live, serving, draft, path)
    (line,) = [record.message for record in caplog.records if record.message.startswith("g4diag violation")]
    # Which read is the first bad one, and by which of the two, depends on how the release recycles pages.
    assert re.search(rf"trap=page_table_\w+ .* path={path} .* layer=1 .* row=\d request=r\d column=\d+ value=\d+", line)
    (dump,) = tmp_path.glob("live-page_table_*.pt")
    inspection = inspect_file(dump)
    assert inspection.outcome.exit_code == 1
    verdict = next(finding.text for finding in inspection.of("verdict"))
    assert (
        re.search(r"layer 1 .* at row \d column \d+: .*\bof 154 pages\b|SWA page \d+ belongs there", verdict)
        and path in verdict
    )


@pytest.fixture(scope="module")
def untouched() -> list[torch.Tensor]:
    """Tokens of the same run with nothing of ours in it."""
    nothing = Live([], None)
    with server(nothing) as (serving, draft, _):
        return served(nothing, serving, draft)


@pytest.mark.parametrize("level", ["warn", "strict", "contain"])
@pytest.mark.parametrize("patches", [(), ("faulty-rule", "patch-e")])
def test_a_healthy_server_is_checked_and_left_alone(
    level: str,
    patches: tuple[str, ...],
    untouched: list[torch.Tensor],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    live = armed(tmp_path, level)
    with server(live, *patches) as (serving, draft, _):
        tokens = served(live, serving, draft)
    assert all(torch.equal(a, b) for a, b in zip(tokens, untouched, strict=True))
    assert live.device is not None and live.device.launches > 0
    assert not [record for record in caplog.records if "violation" in record.message]
    assert list(tmp_path.iterdir()) == []


def test_strict_raises_at_the_end_of_the_step_and_names_the_read(tmp_path: Path) -> None:
    live = armed(tmp_path, "strict")
    with server(live, "faulty-rule") as (serving, draft, _), pytest.raises(TrapTripped) as tripped:
        served(live, serving, draft)
    said = str(tripped.value)
    assert re.search(r"draft_decode handed layer 1 .* page \d+ at row \d column \d+: ", said)
    assert list(tmp_path.glob("live-*.pt")), "the dump comes before the exception"


def test_contain_keeps_a_faulty_draft_off_the_pool_and_goes_on(tmp_path: Path) -> None:
    live = armed(tmp_path, "contain")
    past_the_end = []
    with server(live, "faulty-rule") as (serving, draft, kernel):
        for rid, ids in serving.prompts():
            live.begin_step()
            serving.admit(rid, ids)
            draft.graph()
            past_the_end.append(sum(kernel.out_of_range_B))
            live.end_step(serving.rid_of)
            serving.decode()
    assert past_the_end == [0, 0, 0]
    assert len(list(tmp_path.glob("live-*.pt"))) == 1


def past_the_end_for_the_target(original: Any, backend: Any, layer: Any, forward_batch: Any) -> Any:
    """A target decode table whose last live entry of the first row is no page."""
    table = original(backend, layer, forward_batch)
    if (
        forward_batch.forward_mode.is_decode()
        and backend.token_to_kv_pool.size > 64
        and forward_batch.spec_info is None
    ):
        table = table.clone()
        table[0, (int(backend.forward_metadata.cache_seqlens_int32[0]) - 1) // backend.page_size] = 9999
    return table


def test_contain_raises_for_a_bad_read_of_the_target(tmp_path: Path) -> None:
    live = armed(tmp_path, "contain")
    fault = Hook(ATTENTION.table.path, "around", past_the_end_for_the_target)
    with server(live, extra=(fault,)) as (serving, _, kernel):
        rid, ids = next(serving.prompts())
        live.begin_step()
        serving.admit(rid, ids)
        serving.decode()
        assert sum(kernel.out_of_range_B) == 0, "the kernel was handed the sanitised copy"
        with pytest.raises(TrapTripped, match="target decode"):
            live.end_step(serving.rid_of)


def test_sampling_leaves_eager_steps_out(tmp_path: Path) -> None:
    counts = []
    for every in (1, 3):
        live = armed(tmp_path, every=every)
        with server(live) as (serving, draft, _):
            served(live, serving, draft, "eager")
        assert live.device is not None
        counts.append(live.device.launches)
    assert 0 < counts[1] < counts[0]


def test_after_a_crash_the_verdict_alone_makes_a_dump_that_names_the_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, dumps = tmp_path / "run", tmp_path / "dumps"
    run_dir.mkdir()
    monkeypatch.setenv("G4DIAG_RUN_DIR", str(run_dir))
    live = armed(dumps)
    with server(live, "faulty-rule") as (serving, draft, _):
        for rid, ids in serving.prompts():
            live.begin_step()
            serving.admit(rid, ids)
            draft.eager()
            serving.decode()
        live.crashed(serving.rid_of, RuntimeError("CUDA error: an illegal memory access was encountered"))
    (dump,) = dumps.glob("live-page_table_*.pt")
    verdict = next(finding.text for finding in inspect_file(dump).of("verdict"))
    assert re.search(r"page_table_\w+: draft_decode handed layer 1 .* page \d+ at row \d column \d+: ", verdict)
    (left,) = run_dir.glob("verdict-*.json")
    said = json.loads(left.read_text())
    assert "handed layer 1" in said["verdict"] and "illegal memory access" in said["error"]


class Watcher:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin_step(self) -> None:
        self.told.append("begin")

    def end_step(self, rids: Any) -> None:
        self.told.append(("end", dict(rids)))

    def crashed(self, rids: Any, error: BaseException) -> None:
        self.told.append(("crashed", dict(rids), error))


def batch() -> Any:
    """Two requests, one of them without a row."""
    # A release keeps the row on the request or in its `kv`.
    rows = {"a": SimpleNamespace(req_pool_idx=3), "b": SimpleNamespace(req_pool_idx=None)}
    return SimpleNamespace(reqs=[SimpleNamespace(rid=rid, kv=row, **vars(row)) for rid, row in rows.items()])


def test_steps_tell_begin_and_end_with_the_rows_from_before() -> None:
    watcher = Watcher()
    run, process, freed = (hook.function for hook in Steps(watcher).hooks())

    def gives_rows_back(scheduler: Any, it: Any) -> str:
        others = batch().reqs[0]
        others.rid = "of no batch"
        for req in (others, *it.reqs):
            freed(None, req)
            req.req_pool_idx = req.kv.req_pool_idx = None
        it.reqs.clear()
        return "done"

    assert run(lambda scheduler, it: "launched", None, batch()) == "launched"
    assert process(gives_rows_back, None, batch()) == "done"
    assert watcher.told == ["begin", ("end", {3: "a"})]


def test_the_servers_own_exception_passes_untouched_after_a_last_look() -> None:
    watcher = Watcher()
    run, process, _ = (hook.function for hook in Steps(watcher).hooks())
    error = RuntimeError("illegal")

    def dies(scheduler: Any, it: Any) -> None:
        raise error

    for function in (run, process):
        with pytest.raises(RuntimeError) as raised:
            function(dies, None, batch())
        assert raised.value is error
    assert [told for told in watcher.told if told != "begin"] == [("crashed", {3: "a"}, error)] * 2


def test_work_is_put_off_to_a_forwards_launch_and_to_idle_turns() -> None:
    idle: list[bool] = []
    launched, turn = (hook.function for hook in IdleWork(idle.append).hooks())
    launched("logits", None, batch())
    turn(None)
    assert idle == [False, True]


def test_real_scheduler_has_the_methods_that_steps_hook() -> None:
    hooks = [*Steps(Watcher()).hooks(), *IdleWork(lambda idle: None).hooks()]
    with install("steps", hooks) as installation:
        assert installation.problems() == []


@pytest.mark.parametrize("bound_only", [False, True])
def test_a_copied_table_of_branches_claims_no_expectation(bound_only: bool) -> None:
    """What belongs there is in no row of req_to_token in that order, so a dump must not say so."""

    class Backend:
        token_to_kv_pool = object()
        req_to_token_pool = SimpleNamespace(req_to_token=torch.arange(8).view(2, 4))

    site = Site(
        worker="draft",
        phase="draft_decode",
        path="eager",
        backend=Backend(),
        layer=SimpleNamespace(layer_id=0, sliding_window_size=-1),
        kind=LayerKind.FULL,
        window=-1,
        queries=1,
        pool=PoolView("full", IndexSpace.FULL_SLOT, 1, 8),
        space=None,
        tensors=(torch.tensor([[7, 6]]), torch.tensor([2]), torch.tensor([1])),
        is_bound_only=bound_only,
    )
    read = DeviceCheck(Backends(lambda view: None))._copied(site, 3, {})
    assert read.page_table_BP.tolist() == [[7, 6]]
    assert (read.expected_BP() is None) is bound_only
