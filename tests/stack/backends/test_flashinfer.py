"""FlashInfer's slots are seen in the wrappers that its forwards call, on the host and on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.hooks.install import Hook, install
from g4diag.model import AttentionRead, KVSlots, LayerKind, PoolSwap, View
from g4diag.scenario.applicable import missing
from g4diag.scenario.measure import judge_all
from g4diag.stack.backends.contract import Rail
from g4diag.stack.backends.flashinfer import ATTENTION
from g4diag.stack.drive import cpu
from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.reference import PagedAttention
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.probes.contract import Context, made
from g4diag.stack.probes.workers import Backends
from repro import flashinfer_spec_window
from tests.stack.backends.device_checks import PAGE_TABLE, armed, raising, said, serve
from tests.stack.backends.flat_slots import every_forward_is_seen, slots_have_the_layers_space

BACKEND = "sglang.srt.layers.attention.flashinfer_backend.FlashInferAttnBackend"
MODULE = BACKEND.rpartition(".")[0]
# Up to 0.5.20, where the model has a window and a prefill is split, full layers' paged wrapper is planned with the new
# keys too, which the ragged one reads already and which are not written yet.
READS_NEW_KEYS_TWICE = bool(
    missing(((f"{MODULE}.FlashInferIndicesUpdaterPrefill.update_sliding_window", "elif use_ragged:"),))
)


@contextmanager
def served(hooks: list[Hook], backend: str = "flashinfer") -> Iterator[tuple[Serving, PagedAttention]]:
    kernel = PagedAttention()
    with install("test", hooks), cpu.attention_kernels(kernel.decode, kernel.prefill):
        yield Serving(Geometry(requests=3), seed=0, backend=backend), kernel


@contextmanager
def probed(*broken: Hook) -> Iterator[tuple[list[View], list[Hook]]]:
    views: list[View] = []
    probes = made(Context(Backends(views.append), views.append), frozenset({AttentionRead, PoolSwap, KVSlots}))
    yield views, [*broken, *(hook for probe in probes for hook in probe.hooks())]


def seen(*broken: Hook) -> list[View]:
    with probed(*broken) as (views, hooks), served(hooks) as (serving, kernel):
        draft = FrozenDraft(serving)
        for rid, ids in serving.prompts():
            serving.admit(rid, ids)
            draft.eager()
            draft.graph()
            serving.decode()
        assert kernel.entries, "the reference read nothing"
    return views


@pytest.fixture(scope="module")
def healthy() -> list[View]:
    return seen()


def test_as_released_it_is_silent_and_every_forward_is_seen(healthy: list[View]) -> None:
    found = [violation for view in healthy for violation in judge_all(view)]
    assert {(v.trap, v.phase, v.layer_kind) for v in found} == (
        {("table_is_of_this_step", "extend", LayerKind.FULL)} if READS_NEW_KEYS_TWICE else set()
    )
    every_forward_is_seen(healthy)


def test_its_slots_have_the_layers_space(healthy: list[View]) -> None:
    slots_have_the_layers_space(healthy)


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_a_verify_inside_the_window_is_silent_and_seen(graph: bool) -> None:
    reads = [read for read in _verified(committed=5, graph=graph) if not [*judge_all(read)]]
    assert {(read.phase, read.path, read.layer_kind) for read in reads} == {
        ("target_verify", "graph" if graph else "eager", kind) for kind in LayerKind
    }
    assert {(int(read.seq_lens_B[0]), read.q_len) for read in reads} == {(9, 4)}


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_a_verify_that_reads_the_oldest_keys_is_named(graph: bool) -> None:
    reads = _verified(committed=30, graph=graph)
    found = {(v.trap, v.layer_kind) for read in reads for v in judge_all(read)}
    assert found == {("page_table_in_layer_space", LayerKind.SWA)}


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize(("committed", "says"), [(5, ""), (30, "page_table_in_layer_space")], ids=["healthy", "wrong"])
def test_the_device_check_sees_a_verify(
    graph: bool, committed: int, says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = armed("warn", tmp_path)
    with install("test", [*flashinfer_spec_window._half_cure(), *live.hooks()]):
        live.begin_step()
        flashinfer_spec_window.drive(committed=committed, graph=graph)
        live.end_step({})
    assert live.device is not None and live.device.launches >= 2
    lines = said(caplog)
    assert len(lines) == bool(says) and all(says in line and "target_verify" in line for line in lines)


def _verified(**arguments: Any) -> list[AttentionRead]:
    with probed(*flashinfer_spec_window._half_cure()) as (views, hooks), install("test", hooks):
        flashinfer_spec_window.drive(**arguments)
    return [view for view in views if isinstance(view, AttentionRead)]


def test_full_slots_for_a_sliding_layer_are_named() -> None:
    """What the frozen-KV rule would do here: the first wrapper's slots left in full space."""

    def plain(original: Any, *args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs | {"use_sliding_window_kv_pool": False})

    views = seen(Hook(f"{MODULE}.FlashInferIndicesUpdaterDecode.call_begin_forward", "around", plain))
    found = [v for view in views if isinstance(view, AttentionRead) for v in judge_all(view) if v.phase != "extend"]
    assert {violation.trap for violation in found} >= set(PAGE_TABLE)
    outside = next(violation for violation in found if violation.trap == PAGE_TABLE[0])
    assert outside.summary.startswith("slot ") and outside.summary.endswith(" slots")
    assert {violation.layer_kind for violation in found} == {LayerKind.SWA}


def test_a_stale_length_is_named() -> None:
    def short(result: Any, backend: Any, forward_batch: Any) -> None:
        if forward_batch.forward_mode.is_decode():
            for wrapper in backend.forward_metadata.decode_wrappers:
                wrapper._paged_kv_indptr_buf = (wrapper._paged_kv_indptr_buf - 1).clamp(min=0)

    views = seen(Hook(f"{BACKEND}.init_forward_metadata", "after", short))
    found = {(v.trap, v.phase) for view in views for v in judge_all(view)}
    assert {("table_is_of_this_step", "decode"), ("table_is_of_this_step", "draft_decode")} <= found


def test_a_backend_that_inherits_from_it_is_told_apart() -> None:
    """TRTLLMHAAttnBackend runs this constructor inside its own."""
    with probed() as (views, hooks), served(hooks, "trtllm_mha"):
        pass
    assert [view.backend for view in views if isinstance(view, PoolSwap)] == ["TRTLLMHAAttnBackend"]


def test_contained_slots_are_in_the_wrapper_for_the_call_only() -> None:
    wrapper = SimpleNamespace(_paged_kv_indptr_buf="indptr", _paged_kv_indices_buf="planned")
    call = ATTENTION.calls[0]
    assert call.table(wrapper, "q") == Rail("indptr", "planned")
    with pytest.raises(KeyError), call.placing(Rail("indptr", "sanitised"), wrapper, "q"):
        assert wrapper._paged_kv_indices_buf == "sanitised"
        raise KeyError
    assert wrapper._paged_kv_indices_buf == "planned"


def test_the_device_check_is_silent_on_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    live = armed("contain", tmp_path)
    with served(live.hooks()) as (serving, _):
        serve(live, serving, FrozenDraft(serving))
    assert not [record.message for record in caplog.records if record.message.startswith("g4diag")]


@pytest.mark.parametrize("level", ["warn", "contain"])
def test_the_device_check_names_a_slot_past_the_pool(
    level: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    planned: list[tuple[Any, Any]] = []

    def past(result: Any, backend: Any, forward_batch: Any) -> None:
        if forward_batch.forward_mode.is_decode():
            wrapper = backend.forward_metadata.decode_wrappers[0]
            planned.append((wrapper, wrapper._paged_kv_indices_buf))
            wrapper._paged_kv_indices_buf[0] = backend.token_to_kv_pool.swa_kv_pool.k_buffer[0].shape[0] + 3

    live = armed(level, tmp_path)
    outside: list[int] = []
    with served([Hook(f"{BACKEND}.init_forward_metadata", "after", past), *live.hooks()]) as (serving, kernel):
        for rid, ids in serving.prompts():
            live.begin_step()
            serving.admit(rid, ids)
            with _counting(kernel, outside):
                serving.decode()
            assert all(wrapper._paged_kv_indices_buf is slots for wrapper, slots in planned[-1:])
            with raising("slot", level == "contain"):
                live.end_step(serving.rid_of)
    lines = said(caplog)
    assert "backend=FlashInferAttnBackend" in lines[0] and "slot" in lines[0]
    assert len(planned) == 3 and bool(sum(outside)) == (level == "warn")


@contextmanager
def _counting(kernel: PagedAttention, outside: list[int]) -> Iterator[None]:
    """Every entry past the cache that the reference is handed meanwhile, not those of the latest call alone."""
    gather = kernel.gather

    def counting(*args: Any) -> Any:
        read = gather(*args)
        outside.append(kernel.out_of_range_B[-1])
        return read

    kernel.gather = counting  # type: ignore[method-assign]
    try:
        yield
    finally:
        del kernel.gather  # type: ignore[method-assign]
