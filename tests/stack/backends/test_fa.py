"""fa4's tables are seen at its kernel's call, on the host and on the device, and judged like any other's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.hooks.anchors import has_module
from g4diag.hooks.install import Hook, install
from g4diag.model import AttentionRead, IndexSpace, LayerKind, PoolSwap, View
from g4diag.patches.applying import applied
from g4diag.scenario.measure import judge_all
from g4diag.stack.backends.fa import ATTENTION
from g4diag.stack.drive import cpu
from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.own_pool_draft import OwnPoolDraft
from g4diag.stack.drive.reference import PagedAttention
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.probes.contract import Context, made
from g4diag.stack.probes.workers import Backends
from tests.stack.backends.device_checks import PAGE_TABLE, armed, said, serve

pytestmark = pytest.mark.skipif(
    not has_module("sglang.kernels.ops.attention.flash_attention_v4"),
    reason="this release has no fa4 that a CPU can drive",
)
CURE = "frozen-draft-fa-swa-state"


@contextmanager
def served(hooks: list[Hook], *patches: str) -> Iterator[tuple[Serving, FrozenDraft]]:
    kernel = PagedAttention()
    with applied(patches), install("test", hooks), cpu.attention_kernels(kernel.decode, kernel.prefill):
        serving = Serving(Geometry(requests=3), seed=0, backend="fa4")
        yield serving, FrozenDraft(serving)


def drafted(serving: Serving, draft: FrozenDraft) -> list[Any]:
    tokens = []
    for rid, ids in serving.prompts():
        serving.admit(rid, ids)
        tokens += [draft.eager(), draft.graph()]
        serving.decode()
    return tokens


def seen(*patches: str) -> list[View]:
    views: list[View] = []
    workers = Backends(views.append)
    probes = made(Context(workers, views.append), frozenset({AttentionRead, PoolSwap}))
    with served([hook for probe in probes for hook in probe.hooks()], *patches) as (serving, draft):
        drafted(serving, draft)
    return views


def test_as_released_the_draft_is_named_at_the_view_and_at_the_kernel() -> None:
    views = seen()
    fired = {violation.trap for view in views for violation in judge_all(view)}
    assert fired == {*PAGE_TABLE, "swa_state_follows_pool"}
    reads = [view for view in views if isinstance(view, AttentionRead) and view.layer_kind is LayerKind.SWA]
    assert {(read.worker, read.table_space) for read in reads} == {
        ("target", IndexSpace.SWA_PAGE),
        ("draft", IndexSpace.FULL_PAGE),
    }
    assert {(read.phase, read.path) for read in reads} >= {
        ("extend", "eager"),
        ("decode", "eager"),
        ("draft_decode", "eager"),
        ("draft_decode", "graph"),
    }


def test_cured_it_is_silent_and_every_read_is_still_seen() -> None:
    views = seen(CURE)
    assert not [violation for view in views for violation in judge_all(view)]
    reads = [view for view in views if isinstance(view, AttentionRead) and view.worker == "draft"]
    assert {(read.layer_kind, read.path) for read in reads} == {
        (kind, path) for kind in (LayerKind.SWA, LayerKind.FULL) for path in ("eager", "graph")
    }


def test_an_eagle_draft_that_is_translated_is_named_and_a_released_one_is_not() -> None:
    """The mirror bug: the SWA state of a pool that it does not read (#25103)."""

    def translated(result: Any, backend: Any, model_runner: Any, *args: Any, **kwargs: Any) -> None:
        backend.use_sliding_window_kv_pool = True

    def swaps(hooks: list[Hook]) -> list[PoolSwap]:
        views: list[View] = []
        with install("mirror", hooks), install("test", Backends(views.append).hooks()):
            OwnPoolDraft(Serving(Geometry(requests=1), seed=0, algorithm="EAGLE", backend="fa4"))
        return [view for view in views if isinstance(view, PoolSwap)]

    healthy, broken = swaps([]), swaps([Hook(f"{ATTENTION.backend}.__init__", "after", translated)])
    assert len(healthy) == len(broken) == 2, "a target's and a draft's constructor"
    assert not [violation for swap in healthy for violation in judge_all(swap)]
    assert [violation.trap for violation in judge_all(broken[1])] == ["swa_state_follows_pool"]


@pytest.mark.parametrize("level", ["warn", "contain"])
@pytest.mark.parametrize("patches", [(), (CURE,)])
def test_the_device_check_judges_it_too(
    level: str, patches: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = armed(level, tmp_path)
    with served(live.hooks(), *patches) as (serving, draft):
        serve(live, serving, draft)
    lines = said(caplog)
    if patches:
        assert not lines
    else:
        assert "backend=FlashAttentionBackend" in lines[0] and "path=graph" in lines[0] and "layer=1" in lines[0]


def test_a_table_of_another_kind_is_not_judged() -> None:
    with served([]) as (serving, draft):
        drafted(serving, draft)
        other = draft.backend.forward_metadata.page_table.clone()
        assert ATTENTION.handed(draft.backend, None, None, other) is None
