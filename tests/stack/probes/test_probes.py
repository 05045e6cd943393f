"""The probes: what they say of live objects, that they change nothing, and that they need no kernel to see."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from g4diag.hooks.install import install
from g4diag.model import AttentionRead, IndexSpace, LayerKind, PoolSwap, View
from g4diag.patches.applying import applied
from g4diag.scenario.measure import judge_all
from g4diag.stack.drive import cpu
from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.probes.page_table import PageTableProbe
from g4diag.stack.probes.pool_swap import PoolSwapProbe
from g4diag.stack.probes.workers import Backends
from g4diag.stack.releases import current


def blind(query: torch.Tensor, **arguments: Any) -> torch.Tensor:
    """A kernel that looks at no table and no cache."""
    return torch.zeros_like(query)


def watched(patches: tuple[str, ...]) -> list[View]:
    """Views of a short run: three requests, an eager and a graph draft after each."""
    views: list[View] = []
    backends = Backends(views.append)
    probes = (backends, PoolSwapProbe(backends, views.append), PageTableProbe(backends, views.append))
    hooks = [hook for probe in probes for hook in probe.hooks()]
    with applied(patches), install("test", hooks), cpu.attention_kernels(blind, blind):
        serving = Serving(Geometry(requests=3), seed=0)
        draft = FrozenDraft(serving)
        for rid, ids in serving.prompts():
            serving.admit(rid, ids)
            draft.eager()
            draft.graph()
            serving.decode()
    return views


@pytest.fixture(scope="module")
def faulty() -> list[View]:
    """Views of the faulty state."""
    return watched(("faulty-rule",))


def test_traps_see_the_faulty_state_with_a_kernel_that_sees_nothing(faulty: list[View]) -> None:
    fired = {violation.trap for view in faulty for violation in judge_all(view)}
    assert fired == {"page_table_stays_in_pool", "page_table_in_layer_space", "swa_state_follows_pool"}


@pytest.mark.parametrize("patches", [(), ("faulty-rule", "patch-e")])
def test_traps_are_silent_on_healthy_states(patches: tuple[str, ...], healthy_views: tuple[View, ...]) -> None:
    views = watched(patches) if patches else healthy_views
    reads = [view for view in views if isinstance(view, AttentionRead)]
    assert {read.path for read in reads} == {"eager", "graph"} and {read.worker for read in reads} == {
        "draft",
        "target",
    }
    assert [violation for view in views for violation in judge_all(view)] == []


def test_a_read_says_which_space_its_table_is_in_by_identity(faulty: list[View]) -> None:
    reads = [view for view in faulty if isinstance(view, AttentionRead)]
    swa = [read for read in reads if read.layer_kind is LayerKind.SWA]
    assert {read.table_space for read in swa if read.worker == "target"} == {IndexSpace.SWA_PAGE}
    assert {read.table_space for read in swa if read.worker == "draft"} == {IndexSpace.FULL_PAGE}
    assert {read.expected_space for read in swa} == {IndexSpace.SWA_PAGE}


def test_a_clamped_table_is_seen_as_the_changed_copy_it_is() -> None:
    views = watched(("faulty-rule", "clamp"))
    draft = [v for v in views if isinstance(v, AttentionRead) and v.worker == "draft" and v.layer_kind is LayerKind.SWA]
    assert draft and all(read.is_clamped for read in draft)
    assert max(int(read.page_table_BP.max()) for read in draft) < draft[0].pool.num_pages


def test_swaps_are_seen_at_every_edge_with_names_and_not_addresses(faulty: list[View]) -> None:
    capture = current().points["graph_runner.capture"].path
    swaps = [view for view in faulty if isinstance(view, PoolSwap)]
    sites = {(swap.site, swap.moment) for swap in swaps}
    assert sites == {
        ("constructor", "enter"),
        ("frozen_kv_target_view", "enter"),
        ("frozen_kv_target_view", "exit"),
        ("target_kv_pool_view", "enter"),
        ("target_kv_pool_view", "exit"),
        ("FrozenKVMTPCudaGraphRunner.__init__", "enter"),
        (".".join(capture.split(".")[-2:]), "exit"),
    }
    assert {swap.read_pool for swap in swaps} == {"target:SWAKVPool", "draft:MHATokenToKVPool"}


def test_watching_changes_no_token() -> None:
    from g4diag.stack.drive.reference import PagedAttention

    kernel = PagedAttention()

    def drafted(hooked: bool) -> list[torch.Tensor]:
        tokens: list[torch.Tensor] = []
        backends = Backends(lambda view: None)
        probe = PageTableProbe(backends, lambda view: None)
        hooks = [*backends.hooks(), *probe.hooks()] if hooked else []
        with install("test", hooks), cpu.attention_kernels(kernel.decode, kernel.prefill):
            serving = Serving(Geometry(requests=2), seed=0)
            draft = FrozenDraft(serving)
            for rid, ids in serving.prompts():
                serving.admit(rid, ids)
                tokens += [draft.eager(), draft.graph()]
        return tokens

    assert all(torch.equal(a, b) for a, b in zip(drafted(True), drafted(False), strict=True))


def test_a_broken_sink_never_reaches_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from g4diag import guard

    def broken(view: object) -> None:
        raise RuntimeError("sink")

    guard.set_raising(False)
    backends = Backends(broken)
    probe = PageTableProbe(backends, broken)
    with install("test", [*backends.hooks(), *probe.hooks()]), cpu.attention_kernels(blind, blind):
        serving = Serving(Geometry(requests=1), seed=0)
        ((rid, ids),) = serving.prompts()
        assert serving.admit(rid, ids)
