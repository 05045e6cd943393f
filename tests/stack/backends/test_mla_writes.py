"""K/V written into an MLA pool inside a graph is held against the batch's own slots and the pool's end."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.hooks.install import install
from g4diag.model import KVSlots
from g4diag.stack import backends
from g4diag.stack.drive import mla_kernels
from g4diag.stack.drive.mla_attention import MlaServer
from g4diag.stack.drive.mla_kernels import Kernels
from g4diag.stack.live.selection import traps
from g4diag.stack.live.sink import Live
from tests.stack.backends.device_checks import said

TRAP = "kv_slots_in_layer_space"
WAYS = [("flashinfer_mla", False), ("flashinfer_mla", True), ("trtllm_mla", False), ("triton", True)]
each_way = pytest.mark.parametrize(("name", "joined"), WAYS)


@pytest.fixture(scope="module")
def kernels() -> Iterator[Kernels]:
    kernels = Kernels()
    with mla_kernels.standing_in(kernels):
        yield kernels


class OnDevice(Live):
    """The live sink, deaf to the probes: what it has is the device check's alone."""

    def sink(self, view: Any) -> None:
        pass


def armed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaf: bool = True) -> Live:
    """The trap of written slots, over the MLA backends: hooks are slow to put on."""
    known = tuple(a for a in backends.known() if a.name in {name for name, _ in WAYS})
    monkeypatch.setattr(backends, "known", lambda: known)
    return (OnDevice if deaf else Live)([traps()[TRAP]], tmp_path, on_device=True)


def replayed(live: Live, server: MlaServer, batch: Any, joined: bool, verify: bool = False) -> None:
    """The runner is handed `batch`; its graph reads that batch's buffers. A step."""
    live.begin_step()
    server.write(batch, joined=joined)
    live.end_step({})


def told(live: Live, server: MlaServer, batch: Any) -> None:
    """Where a graph's runner is handed a batch, before it fills its buffers."""
    assert live.device is not None
    live.device.told._replays(SimpleNamespace(model_runner=server.runner), batch)


def one_off(slots_N: Any) -> Any:
    return torch.cat([slots_N[:-1], slots_N[-1:] + 1])


def written_rightly(live: Live, server: MlaServer, batch: Any, joined: bool, caplog: pytest.LogCaptureFixture) -> Any:
    """A warm-up, of which nothing is told, and a healthy replay: judged, and without a word. The batch's slots."""
    server.write(batch, joined=joined)
    own = batch.out_cache_loc
    assert server.runner.token_to_kv_pool.kv_buffer[0][own].eq(1).all(), "it was written"
    told(live, server, batch)
    replayed(live, server, batch, joined)
    assert live.device is not None and live.device.writes.launches == 2 and not said(caplog)
    return own


@each_way
@pytest.mark.parametrize("verify", [False, True])
def test_slots_that_are_not_the_batchs_are_named_and_its_own_are_not(
    name: str,
    joined: bool,
    verify: bool,
    kernels: Kernels,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, live = MlaServer(name, kernels), armed(tmp_path, monkeypatch)
    with install("test", live.hooks()):
        batch = server.graph(verify)
        own = written_rightly(live, server, batch, joined, caplog)
        assert live.device is not None
        told_slots = live.device.told.of("target", "target_verify" if verify else "decode", own)
        assert told_slots is not None and told_slots.slots_M[: len(own)].equal(own) and told_slots.requests == 0
        stale = copy.copy(batch)
        stale.out_cache_loc = one_off(own)
        told(live, server, batch)
        replayed(live, server, stale, joined)
    (line,) = said(caplog)
    assert f"trap={TRAP} " in line and "path=graph" in line
    assert f"slot {int(own[-1]) + 1}, where full slot {int(own[-1])} belongs" in line


@each_way
def test_slots_past_the_pool_are_named(
    name: str,
    joined: bool,
    kernels: Kernels,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, live = MlaServer(name, kernels), armed(tmp_path, monkeypatch)
    assert live.device is not None
    known, pools = live.device._backends, live.device._backends.layer_pool

    def smaller(pool: Any, layer_id: int) -> Any:
        view, kind = pools(pool, layer_id)
        return replace(view, num_pages=1), kind

    monkeypatch.setattr(known, "layer_pool", smaller)
    with install("test", live.hooks()):
        replayed(live, server, server.graph(), joined)
    (line,) = said(caplog)
    assert f"outside the mla pool of {server.page} slots" in line


def as_of_another_class(server: MlaServer) -> None:
    """A pool that makes other slots of those it is handed, as HiSparse's does."""
    pool = server.runner.token_to_kv_pool

    class Elsewhere(type(pool)):
        def set_mla_kv_buffer(self, layer: Any, loc: Any, *args: Any) -> None:
            super().set_mla_kv_buffer(layer, torch.zeros_like(getattr(loc, "loc", loc)), *args)

    pool.__class__ = Elsewhere


def as_of_several_ranks(server: MlaServer) -> None:
    """A pool of whose rows each rank has a part, so that slots go past its end."""
    pool = server.runner.token_to_kv_pool

    class Shared(type(pool)):
        _write_loc_dcp_span = 2

    pool.__class__ = Shared


@pytest.mark.parametrize("put", [as_of_another_class, as_of_several_ranks])
def test_a_pool_that_gives_slots_another_meaning_is_not_judged(
    put: Callable[[MlaServer], None],
    kernels: Kernels,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, live = MlaServer("flashinfer_mla", kernels), armed(tmp_path, monkeypatch, deaf=False)
    assert live.device is not None
    put(server)
    with install("test", live.hooks()):
        replayed(live, server, server.graph(), joined=False)
        assert live.device.writes.launches == 0
        replayed(live, server, server.eager(), joined=False)
    assert not said(caplog)


def test_a_write_in_the_launch_that_makes_a_query_is_judged(
    kernels: Kernels, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sglang.srt.layers.attention import trtllm_mla_backend as module

    if not hasattr(module, "set_mla_kv_concat_q"):
        pytest.skip("this release writes through the pool alone")

    def fused(
        kv_buffer: Any, loc: Any, cache_k_nope: Any, cache_k_rope: Any, q_nope: Any, q_rope: Any, num_warps: int = 0
    ) -> Any:
        """In the place of the compiled one, which is CUDA's."""
        kv_buffer[loc] = torch.cat([cache_k_nope, cache_k_rope], -1)
        return torch.cat([q_nope, q_rope], -1)

    monkeypatch.setattr(module, "set_mla_kv_concat_q", fused)
    monkeypatch.setattr(module, "set_mla_kv_concat_q_covered", lambda **given: True)
    server, live = MlaServer("trtllm_mla", kernels), armed(tmp_path, monkeypatch)
    server.backend._fused_set_kv_concat_q = True
    with install("test", live.hooks()):
        batch = server.graph()
        own = written_rightly(live, server, batch, False, caplog)
        stale = copy.copy(batch)
        stale.out_cache_loc = one_off(own)
        replayed(live, server, stale, joined=False)
    (line,) = said(caplog)
    assert f"trap={TRAP} " in line and f"full slot {int(own[-1])} belongs" in line


@each_way
def test_eager_writes_are_seen_and_leave_no_word(
    name: str,
    joined: bool,
    kernels: Kernels,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    views: list[Any] = []
    server, live = MlaServer(name, kernels), armed(tmp_path, monkeypatch, deaf=False)
    heard = live.sink
    monkeypatch.setattr(live, "sink", lambda view: (views.append(view), heard(view)))
    with install("test", live.hooks()):
        replayed(live, server, server.eager(), joined)
    (write,) = [view for view in views if isinstance(view, KVSlots)]
    assert write.pool.name == "mla" and write.slots_N is not None and len(write.slots_N) == 3
    assert not said(caplog)
