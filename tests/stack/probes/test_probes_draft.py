"""Probes of the frozen draft: swaps under a wrapper and through exceptions, lengths of replays, writes in a view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.hooks.install import install
from g4diag.model import AttentionRead, KVWrite, PoolSwap, View
from g4diag.patches.applying import applied
from g4diag.scenario.measure import judge_all
from g4diag.stack.drive import cpu
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.probes.kv_write import KVWriteProbe
from g4diag.stack.probes.page_table import PageTableProbe
from g4diag.stack.probes.pool_swap import PoolSwapProbe
from g4diag.stack.probes.workers import Backends

CURE = "hybrid-wrapper-pool-swap"


def blind(query: torch.Tensor, **arguments: Any) -> torch.Tensor:
    return torch.zeros_like(query)


@contextmanager
def drafting(*patches: str, requests: int = 2, **draft: Any) -> Iterator[tuple[FrozenDraft, list[View]]]:
    """A draft over a server with running requests, all probes on, and what they saw so far."""
    views: list[View] = []
    backends = Backends(views.append)
    probes = [backends, *(probe(backends, views.append) for probe in (PoolSwapProbe, PageTableProbe, KVWriteProbe))]
    hooks = [hook for probe in probes for hook in probe.hooks()]
    with applied(patches), install("test", hooks), cpu.attention_kernels(blind, blind):
        serving = Serving(Geometry(requests=requests), seed=0)
        made = FrozenDraft(serving, **draft)
        for rid, ids in serving.prompts():
            assert serving.admit(rid, ids)
        yield made, views


def fired(views: Iterable[View]) -> set[str]:
    return {violation.trap for view in views for violation in judge_all(view)}


def test_all_of_it_is_silent_on_a_healthy_draft(healthy_views: tuple[View, ...]) -> None:
    assert fired(healthy_views) == set()
    reads = [view for view in healthy_views if isinstance(view, AttentionRead)]
    assert {read.path for read in reads if read.batch_lens_B is not None} == {"eager", "graph"}
    assert all(read.batch_rows == len(read.page_table_BP) for read in reads)


def test_the_child_that_reads_is_seen_below_a_wrapper() -> None:
    with drafting(hybrid=True, layers=4) as (draft, views):
        draft.eager()
    swaps = [view for view in views if isinstance(view, PoolSwap) and view.site == "target_kv_pool_view"]
    assert {swap.backend for swap in swaps} == {"HybridAttnBackend>TRTLLMHAAttnBackend"}
    bad = [violation for swap in swaps for violation in judge_all(swap)]
    assert bad and "it will read draft:MHATokenToKVPool, where target:SWAKVPool is to be read" in bad[0].summary


def test_the_cure_of_the_wrapper_silences_it() -> None:
    with drafting(CURE, hybrid=True, layers=4) as (draft, views):
        draft.eager()
        draft.graph()
    assert fired(views) == set()


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("name", ["frozen_kv_target_view", "target_kv_pool_view"])
def test_a_body_that_raises_is_seen_to_restore_and_its_error_is_untouched(name: str, hybrid: bool) -> None:
    from sglang.srt.speculative import frozen_kv_mtp_utils

    with drafting(CURE, requests=1, hybrid=hybrid) as (draft, views):
        worker, error = draft.worker, ZeroDivisionError("body")
        batch = SimpleNamespace(spec_info=None, forward_mode=_decode())
        del views[:]
        view = getattr(frozen_kv_mtp_utils, name)(batch, worker.kv_context, worker.draft_attn_backend)
        with pytest.raises(ZeroDivisionError) as raised, view:
            raise error
    assert raised.value is error and error.__context__ is None
    assert [swap.moment for swap in views if isinstance(swap, PoolSwap)] == ["enter", *["exit"] * (1 + hybrid)]
    assert fired(views) == set()


def test_a_view_that_does_not_restore_is_caught_also_when_the_body_raises() -> None:
    from sglang.srt.speculative import frozen_kv_mtp_utils

    with drafting(requests=1) as (draft, views):
        worker = draft.worker
        backend = worker.draft_attn_backend
        batch = SimpleNamespace(spec_info=None, forward_mode=_decode())
        view = frozen_kv_mtp_utils.target_kv_pool_view(batch, worker.kv_context, backend)
        with pytest.raises(ZeroDivisionError), view:
            backend._swa_kv_pool = None
            raise ZeroDivisionError
    (violation,) = [violation for view in views for violation in judge_all(view)]
    assert violation.trap == "swa_state_follows_pool" and "target_kv_pool_view (exit)" in violation.summary


def test_a_replay_on_an_earlier_steps_lengths_fires() -> None:
    with drafting() as (draft, views):
        draft.graph()
        draft.serving.decode()
        assert fired(views) == set()
        for plan in ("init_forward_metadata_out_graph", "init_forward_metadata_in_graph"):
            setattr(draft.backend, plan, lambda *args, **named: None)
        draft.graph()
    bad = [violation for view in views for violation in judge_all(view)]
    assert "table_is_of_this_step" in {violation.trap for violation in bad}
    stale = next(violation for violation in bad if violation.trap == "table_is_of_this_step")
    assert (stale.path, stale.worker, stale.count) == ("graph", "draft", 2)


@pytest.mark.parametrize("cut", ["columns", "rows"])
def test_a_table_cut_short_fires(cut: str) -> None:
    with drafting() as (draft, views):
        backend = draft.backend
        honest = backend.init_forward_metadata

        def cuts(forward_batch: Any) -> None:
            honest(forward_batch)
            metadata = backend.forward_metadata
            for name in ("page_table", "swa_page_table"):
                table = getattr(metadata, name)
                setattr(metadata, name, table[:, :3] if cut == "columns" else table[:1])

        backend.init_forward_metadata = cuts
        draft.eager()
    bad = [v for view in views for v in judge_all(view) if v.trap == "table_is_wide_enough"]
    assert bad and ("columns" if cut == "columns" else "1 rows for 2 requests") in bad[0].summary


@pytest.mark.parametrize("site", ["frozen_kv_target_view", "target_kv_pool_view"])
def test_a_write_in_a_view_fires_once_and_one_outside_does_not(site: str) -> None:
    from sglang.srt.speculative import frozen_kv_mtp_utils

    with drafting(requests=1) as (draft, views):
        worker, pool = draft.worker, draft.serving.kv_pool
        heads, size = draft.serving.config.num_key_value_heads, draft.serving.config.head_dim
        kv, loc = torch.zeros(2, heads, size), torch.tensor([16, 17])

        def write() -> None:
            for layer in range(2):
                driver().write_kv(pool, SimpleNamespace(layer_id=layer), loc, loc, kv, kv)

        del views[:]
        write()
        assert not views
        batch = SimpleNamespace(spec_info=None, forward_mode=_decode())
        with getattr(frozen_kv_mtp_utils, site)(batch, worker.kv_context, worker.draft_attn_backend):
            write()
    writes = [view for view in views if isinstance(view, KVWrite)]
    assert writes == [KVWrite(site, "target:SWAKVPool", layer, 2) for layer in range(2)]
    assert fired(views) == {"draft_writes_no_kv"}


def test_one_copy_of_the_mapping_serves_every_layer_until_it_is_written_to() -> None:
    with drafting() as (draft, views):
        del views[:]
        draft.eager()
        reads = [view for view in views if isinstance(view, AttentionRead)]
        assert len(reads) > 2 and len({id(read.mapping) for read in reads}) == 1
        draft.serving.decode()
        draft.eager()
    later = [view for view in views if isinstance(view, AttentionRead)][-1]
    assert later.mapping is not reads[0].mapping
    expected = draft.serving.kv_pool.full_to_swa_index_mapping.numpy()
    assert later.mapping is not None and (later.mapping.full_to_swa_M == expected).all()


def _decode() -> Any:
    from sglang.srt.model_executor.forward_batch_info import ForwardMode

    return ForwardMode.DECODE
