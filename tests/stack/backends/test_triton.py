"""Triton's flat slots are seen at its kernels' calls, on the host and on the device, and judged like any table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.hooks.install import Hook, install
from g4diag.model import AttentionRead, KVSlots, LayerKind, PoolSwap, View
from g4diag.scenario.measure import judge_all
from g4diag.stack.drive import cpu
from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.reference import PagedAttention
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.probes.contract import Context, made
from g4diag.stack.probes.workers import Backends
from tests.stack.backends.device_checks import PAGE_TABLE, armed, raising, said, serve
from tests.stack.backends.flat_slots import every_forward_is_seen, slots_have_the_layers_space

BACKEND = "sglang.srt.layers.attention.triton_backend.TritonAttnBackend"


@contextmanager
def served(hooks: list[Hook]) -> Iterator[tuple[Serving, FrozenDraft]]:
    kernel = PagedAttention()
    with install("test", hooks), cpu.attention_kernels(kernel.decode, kernel.prefill):
        serving = Serving(Geometry(requests=3), seed=0, backend="triton")
        yield serving, FrozenDraft(serving)
        assert kernel.entries, "the reference read nothing"


def seen(broken: list[Hook] | None = None) -> list[View]:
    views: list[View] = []
    workers = Backends(views.append)
    probes = made(Context(workers, views.append), frozenset({AttentionRead, PoolSwap, KVSlots}))
    hooks = [*(broken or []), *(hook for probe in probes for hook in probe.hooks())]
    with served(hooks) as (serving, draft):
        for rid, ids in serving.prompts():
            serving.admit(rid, ids)
            draft.eager()
            draft.graph()
            serving.decode()
    return views


@pytest.fixture(scope="module")
def healthy() -> list[View]:
    return seen()


def test_as_released_it_is_silent_and_every_forward_is_seen(healthy: list[View]) -> None:
    assert not [violation for view in healthy for violation in judge_all(view)]
    every_forward_is_seen(healthy)


def test_its_slots_have_the_layers_space(healthy: list[View]) -> None:
    slots_have_the_layers_space(healthy)


def test_full_slots_for_a_sliding_layer_are_named() -> None:
    """What the frozen-KV rule would do here: the window's slots left in full space."""

    def plain(original: Any, *args: Any, **kwargs: Any) -> Any:
        args = tuple(None if getattr(value, "layers_mapping", None) is not None else value for value in args)
        kwargs = {k: None if getattr(v, "layers_mapping", None) is not None else v for k, v in kwargs.items()}
        return original(*args, **kwargs)

    module = BACKEND.rpartition(".")[0]
    views = seen([Hook(f"{module}.update_sliding_window_buffer", "around", plain)])
    found = [violation for view in views for violation in judge_all(view) if isinstance(view, AttentionRead)]
    assert {violation.trap for violation in found} >= set(PAGE_TABLE)
    outside = next(violation for violation in found if violation.trap == PAGE_TABLE[0])
    assert outside.summary.startswith("slot ") and outside.summary.endswith(" slots")
    assert {violation.layer_kind for violation in found} == {LayerKind.SWA}


def test_a_stale_length_is_named() -> None:
    def short(result: Any, backend: Any, forward_batch: Any) -> None:
        if forward_batch.forward_mode.is_decode():
            metadata = backend.forward_metadata
            metadata.kv_indptr = (metadata.kv_indptr - 1).clamp(min=0)

    views = seen([Hook(f"{BACKEND}.init_forward_metadata", "after", short)])
    found = {violation.trap for view in views for violation in judge_all(view)}
    assert "table_is_of_this_step" in found


def test_the_device_check_is_silent_on_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    live = armed("contain", tmp_path)
    with served(live.hooks()) as (serving, draft):
        serve(live, serving, draft)
    assert not [record.message for record in caplog.records if record.message.startswith("g4diag")]


@pytest.mark.parametrize("level", ["warn", "contain"])
def test_the_device_check_names_a_slot_past_the_pool(
    level: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def past(result: Any, backend: Any, forward_batch: Any) -> None:
        indices = backend.forward_metadata.window_kv_indices
        if forward_batch.forward_mode.is_decode() and indices is not None and len(indices):
            indices[0] = backend.token_to_kv_pool.swa_kv_pool.k_buffer[0].shape[0] + 3

    live = armed(level, tmp_path)
    hooks = [Hook(f"{BACKEND}.init_forward_metadata", "after", past), *live.hooks()]
    kernel = PagedAttention()
    with install("test", hooks), cpu.attention_kernels(kernel.decode, kernel.prefill):
        serving = Serving(Geometry(requests=2), seed=0, backend="triton")
        for rid, ids in serving.prompts():
            live.begin_step()
            serving.admit(rid, ids)
            serving.decode()
            with raising("slot", level == "contain"):
                live.end_step(serving.rid_of)
    lines = said(caplog)
    assert "backend=TritonAttnBackend" in lines[0] and "slot" in lines[0]
    assert (kernel.out_of_range_B == [0] * len(kernel.out_of_range_B)) or level == "warn"


@pytest.mark.parametrize("window", [0, 64])
def test_a_draft_step_that_is_clipped_by_a_flag_is_judged_by_the_bound_alone(
    window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    import torch
    from sglang.srt.model_executor.forward_batch_info import ForwardMode

    from g4diag.stack.backends import triton
    from g4diag.stack.backends.contract import Rail

    context = pytest.importorskip("sglang.srt.runtime_context")
    monkeypatch.setattr(context, "get_spec", lambda: SimpleNamespace(speculative_draft_window_size=window))
    rail = Rail(torch.tensor([0, 3]), torch.tensor([1, 2, 3]))
    metadata = SimpleNamespace(
        window_kv_indices=None, kv_indices=rail.indices_N, kv_indptr=rail.indptr_B1, max_extend_len=None
    )
    batch = SimpleNamespace(
        req_pool_indices=torch.tensor([1]),
        seq_lens=torch.tensor([2]),
        forward_mode=ForwardMode.DECODE,
        spec_info=SimpleNamespace(kv_indptr=rail.indptr_B1),
    )
    layer = SimpleNamespace(sliding_window_size=-1)
    handed = triton.ATTENTION.handed(SimpleNamespace(forward_metadata=metadata), layer, batch, rail)
    assert handed is not None and handed.is_bound_only is (window > 0) and handed.lengths_B.tolist() == [3]
