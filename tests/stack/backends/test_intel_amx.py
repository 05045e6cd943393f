"""intel_amx's request rows are seen at its kernels' calls: silent where healthy, named where the draft's are wrong."""

from __future__ import annotations

import pytest

pytest.importorskip("sglang")

from g4diag.hooks.install import install
from g4diag.model import AttentionRead, IndexSpace, LayerKind, PoolSwap, View
from g4diag.patches.applying import applied
from g4diag.scenario.measure import judge_all
from g4diag.stack.drive import cpu, sgl_kernel_stand_in
from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.reference import PagedAttention
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.probes.contract import Context, made
from g4diag.stack.probes.workers import Backends

pytestmark = pytest.mark.skipif(
    not sgl_kernel_stand_in.is_needed(), reason="this release's intel_amx cannot be built without its kernels"
)


def seen(*patches: str) -> list[View]:
    views: list[View] = []
    workers = Backends(views.append)
    probes = made(Context(workers, views.append), frozenset({AttentionRead, PoolSwap}))
    hooks = [hook for probe in probes for hook in probe.hooks()]
    kernel = PagedAttention()
    with applied(patches), install("test", hooks), cpu.attention_kernels(kernel.decode, kernel.prefill):
        serving = Serving(Geometry(requests=3), seed=0, backend="intel_amx")
        draft = FrozenDraft(serving)
        for rid, ids in serving.prompts():
            serving.admit(rid, ids)
            draft.eager()
            serving.decode()
    return views


def test_as_released_the_draft_is_named_and_the_target_is_not() -> None:
    views = seen()
    found = {(v.trap, v.worker) for view in views for v in judge_all(view)}
    assert found == {
        ("page_table_stays_in_pool", "draft"),
        ("page_table_in_layer_space", "draft"),
        ("swa_state_follows_pool", ""),
    }
    sliding = [v for v in views if isinstance(v, AttentionRead) and v.layer_kind is LayerKind.SWA]
    assert {(read.worker, read.table_space) for read in sliding} == {
        ("target", IndexSpace.SWA_SLOT),
        ("draft", IndexSpace.FULL_SLOT),
    }


def test_cured_it_is_silent_and_every_read_is_still_seen() -> None:
    views = seen("frozen-draft-amx-swa-state")
    assert not [violation for view in views for violation in judge_all(view)]
    reads = [view for view in views if isinstance(view, AttentionRead)]
    assert {(read.worker, read.phase, read.layer_kind) for read in reads} == {
        (*forward, kind)
        for kind in LayerKind
        for forward in (("target", "extend"), ("target", "decode"), ("draft", "draft_decode"))
    }
    assert sum(int(read.live_BP().sum()) for read in reads) > 10_000
