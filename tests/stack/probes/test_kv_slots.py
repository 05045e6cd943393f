"""The probe sees every K/V write of a layer: the pools' own, by any backend, and the fused one that goes round them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sglang")

import torch

from g4diag.hooks.install import install
from g4diag.model import IndexSpace, KVSlots, LayerKind, Severity
from g4diag.patches.applying import applied
from g4diag.stack.drive import cpu
from g4diag.stack.drive.own_pool_draft import OwnPoolDraft
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.probes.kv_slots import KVSlotsProbe
from g4diag.stack.probes.workers import Backends
from g4diag.stack.probes.written_slots import Written
from g4diag.traps.kv_slots_in_layer_space import TRAP
from repro.fp8_write_full_index import drive


def seen(run: Callable[[], object], patches: Sequence[str] = ()) -> list[KVSlots]:
    views: list[KVSlots] = []
    backends = Backends(lambda swap: None)
    hooks = [*backends.hooks(), *KVSlotsProbe(backends, views.append).hooks()]

    def blind(query: torch.Tensor, **arguments: object) -> torch.Tensor:
        return torch.zeros(query.shape)

    with applied(patches), cpu.attention_kernels(blind, blind), install("test", hooks):
        run()
    return views


def broken(views: list[KVSlots]) -> list[Severity]:
    return [violation.severity for view in views for violation in TRAP.judge(view)]


def serve() -> None:
    """Three requests prefilled and decoded; the SWA ids of the later ones differ, as a first one's pages went."""
    serving = Serving(Geometry(requests=3), seed=0)
    serving.allocator.swa_attn_allocator.alloc(4 * serving.geometry.page_size)
    for rid, ids in serving.prompts():
        assert serving.admit(rid, ids)
    serving.decode()


def test_a_healthy_server_writes_each_layer_in_its_own_space() -> None:
    views = seen(serve)
    assert {(view.worker, view.phase, view.layer_kind) for view in views} >= {
        ("target", phase, kind) for phase in ("extend", "decode") for kind in LayerKind
    }
    sliding = [view for view in views if view.layer_kind is LayerKind.SWA]
    apart = sum(int((view.slots_N != view.full_slots_N).sum()) for view in sliding)
    assert apart and not broken(views)
    assert {view.slots_space for view in sliding} == {None}
    assert {view.slots_space for view in views if view.layer_kind is LayerKind.FULL} == {IndexSpace.FULL_SLOT}


def test_a_backends_stale_translation_is_found() -> None:
    """`swa_out_cache_loc` is made once a forward, and every sliding layer is handed it."""

    def stale() -> None:
        serving = Serving(Geometry(requests=1), seed=0)
        backend = serving.runner.attn_backend
        honest = backend.init_forward_metadata

        def made(forward_batch: Any) -> None:
            honest(forward_batch)
            backend.forward_metadata.swa_out_cache_loc = backend.forward_metadata.swa_out_cache_loc.clone() + 1

        for rid, ids in serving.prompts():
            assert serving.admit(rid, ids)
        backend.init_forward_metadata = made
        serving.decode()

    views = seen(stale)
    found = [view for view in views if list(TRAP.judge(view))]
    assert found and {(view.phase, view.layer_kind) for view in found} == {("decode", LayerKind.SWA)}


def test_the_fused_write_is_seen_as_released_and_with_the_fault() -> None:
    healthy = seen(drive)
    assert len(healthy) == 4 and not broken(healthy)
    assert broken(seen(drive, ("fused-write-full-index",))) == [Severity.ERROR, Severity.ERROR]


def test_a_draft_with_a_pool_of_its_own_writes_full_slots_and_is_silent() -> None:
    def draft() -> None:
        serving = Serving(Geometry(requests=2), seed=0, algorithm="EAGLE")
        own = OwnPoolDraft(serving)
        for rid, ids in serving.prompts():
            assert serving.admit(rid, ids)
        serving.decode()
        own.eager()

    views = [view for view in seen(draft) if view.worker == "draft"]
    assert views and {view.pool.name for view in views} == {"draft-own"} and not broken(views)


def test_slots_on_a_device_are_told_by_identity_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnDevice(torch.Tensor):
        is_cuda = True

    views: list[KVSlots] = []
    probe = KVSlotsProbe(Backends(lambda swap: None), views.append)
    serving = Serving(Geometry(requests=1), seed=0)
    pool, layers = serving.runner.token_to_kv_pool, [layer.self_attn.attn for layer in serving.model.model.layers]
    slots = torch.arange(3).as_subclass(OnDevice)
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: pytest.fail("waits for the device"))
    for layer in layers:
        probe._written(Written(pool, layer, slots, slots, None))
    assert {view.slots_space for view in views} == {IndexSpace.FULL_SLOT} and all(v.slots_N is None for v in views)
    assert broken(views) == [Severity.ERROR] * sum(view.layer_kind is LayerKind.SWA for view in views)
    assert np.all([view.tokens == 3 for view in views])
