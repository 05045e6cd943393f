"""On fa3 with a draft tree each of a layer's tables is seen and judged: the prefix's, that of what was drafted, and the
one of both that sliding layers of a verify have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.hooks.install import install
from g4diag.model import AttentionRead, IndexSpace, LayerKind, View, Violation
from g4diag.patches.applying import applied
from g4diag.scenario.measure import judge_all
from g4diag.stack.drive import draft_tree
from g4diag.stack.drive.allocators import extend
from g4diag.stack.drive.backends import SMALL, bare_server, cuda_is_cpu, flash_attention_imports, unpaged_server
from g4diag.stack.drive.driver import driver
from g4diag.stack.probes.contract import Context, made
from g4diag.stack.probes.workers import Backends
from tests.stack.backends.device_checks import armed, raising, said

OUTSIDE, WRONG = "page_table_stays_in_pool", "page_table_in_layer_space"
FAULT = "fa-spec-full-table"
TREES = [torch.tensor(rows).bool() for rows in ([[1, 0, 0], [1, 1, 0], [1, 0, 1]], [[1, 0, 0], [1, 1, 0], [1, 1, 1]])]
STEPS = 3
Break = Callable[[Any], None]


@pytest.fixture(autouse=True)
def fa3() -> Iterator[None]:
    with flash_attention_imports():
        yield


def rows_of(serving: Any, *lengths: int) -> list[Any]:
    """Full slots, none of which has its own number in SWA space."""
    allocator = serving.allocator
    alloc = allocator.alloc if allocator.page_size == 1 else partial(extend, allocator)
    allocator.free_swa(alloc(2 * SMALL.page_size))
    return [alloc(length) for length in lengths]


def warmed_up() -> int:
    """The same over what a graph of it is warmed up with: padding, and metadata that nobody has filled yet."""
    serving, calls = unpaged_server(), list[Any]()
    backend = draft_tree.fa3_backend(serving, 2, 3)
    batch = draft_tree.verify_batch(serving, rows_of(serving, 4, 4), TREES)
    batch.req_pool_indices = torch.zeros(2, dtype=torch.int64)
    assert batch.seq_lens.tolist() == [1, 1]
    with cuda_is_cpu():
        backend.init_cuda_graph_state(2, 6)
        driver().plan_graph(backend, batch, in_capture=True)
    with draft_tree.fa3_kernel(calls.append):
        for layer in draft_tree.layers(serving).values():
            draft_tree.forward(backend, layer, batch)
    return len(calls)


def verify(broken: Break, graph: bool = False) -> int:
    """Calls of the kernel in a verify of two trees by both kinds of layer. broken: gets the backend when planned."""
    serving, calls = unpaged_server(), list[Any]()
    backend = draft_tree.fa3_backend(serving, 2, 3)
    batch = draft_tree.verify_batch(serving, rows_of(serving, 30, 24), TREES)
    if graph:
        with cuda_is_cpu():
            backend.init_cuda_graph_state(2, 6)
            for in_capture in (True, False):
                driver().plan_graph(backend, batch, in_capture=in_capture)
    else:
        backend.init_forward_metadata(batch)
    broken(backend)
    with draft_tree.fa3_kernel(calls.append):
        for layer in draft_tree.layers(serving).values():
            draft_tree.forward(backend, layer, batch)
    return len(calls)


def draft(broken: Break, page: int = 1) -> int:
    """The same of a draft's second step, by a full layer."""
    serving, calls = unpaged_server() if page == 1 else bare_server(SMALL), list[Any]()
    backend = draft_tree.fa3_backend(serving, 2, 3, speculative_step_id=1, speculative_num_steps=STEPS)
    batch = draft_tree.draft_batch(serving, rows_of(serving, 30, 27), 2 * STEPS)
    backend.init_forward_metadata(batch)
    broken(backend)
    with draft_tree.fa3_kernel(calls.append):
        draft_tree.forward(backend, draft_tree.layers(serving)[False], batch)
    return len(calls)


def reads(drive: Callable[[], int], *patches: str) -> list[AttentionRead]:
    views: list[View] = []
    workers = Backends(views.append)
    probes = made(Context(workers, views.append), frozenset({AttentionRead}))
    hooks = [hook for probe in probes for hook in probe.hooks()]
    with applied(patches), install("test", [*workers.hooks(), *hooks]):
        calls = drive()
    seen = [view for view in views if isinstance(view, AttentionRead)]
    assert len(seen) == calls > 0, "a call of the kernel was not seen"
    return seen


def fired(drive: Callable[[], int], *patches: str) -> dict[str, Violation]:
    return {violation.trap: violation for read in reads(drive, *patches) for violation in judge_all(read)}


def healthy(backend: Any) -> None:
    pass


@pytest.mark.parametrize("graph", [False, True])
def test_a_verify_is_silent_and_each_of_its_tables_is_judged_by_value(graph: bool) -> None:
    seen = reads(lambda: verify(healthy, graph))
    assert not [violation for read in seen for violation in judge_all(read)]
    assert {(read.layer_kind, read.table_space, len(read.seq_lens_B), read.path == "graph") for read in seen} == {
        (LayerKind.FULL, IndexSpace.FULL_PAGE, 2, graph),
        (LayerKind.FULL, IndexSpace.FULL_SLOT, 6, graph),
        (LayerKind.SWA, None, 6, graph),
    }
    assert all(read.expected_BP() is not None and read.live_BP().sum() > 8 for read in seen)


def test_the_warming_up_of_a_graph_is_silent() -> None:
    seen = reads(warmed_up)
    assert {read.path for read in seen} == {"graph"} and {0} in [set(read.seq_lens_B.tolist()) for read in seen]
    assert not [violation for read in seen for violation in judge_all(read)]


def other_requests(backend: Any) -> None:
    backend.forward_metadata.page_table = backend.forward_metadata.page_table.flip(0)


def other_branch(backend: Any) -> None:
    table = backend.forward_metadata_spec_decode_expand.page_table
    table[2, 1] = table[1, 1]


def past(backend: Any) -> None:
    backend.forward_metadata_spec_decode_expand.page_table[-1, 0] = 10_000


def stale(backend: Any) -> None:
    backend.forward_metadata.cache_seqlens_int32 -= 1


@pytest.mark.parametrize(
    ("broken", "trap"),
    [(other_requests, WRONG), (other_branch, WRONG), (past, OUTSIDE), (stale, "table_is_of_this_step")],
)
def test_what_is_wrong_in_a_verify_is_named(broken: Break, trap: str) -> None:
    assert trap in fired(lambda: verify(broken))


def test_full_slots_in_the_table_of_a_sliding_layer_are_named() -> None:
    found = fired(lambda: verify(healthy), FAULT)
    assert set(found) == {WRONG, OUTSIDE}
    assert {violation.layer_kind for violation in found.values()} == {LayerKind.SWA}


@pytest.mark.parametrize("page", [1, 16])
def test_the_making_of_a_tree_is_silent_and_its_bound_and_prefix_are_judged(page: int) -> None:
    seen = reads(lambda: draft(healthy, page))
    assert not [violation for read in seen for violation in judge_all(read)]
    prefix, branches = seen
    assert prefix.expected_BP() is not None and prefix.batch_lens_B is not None
    assert branches.expected_BP() is None and branches.page_table_BP.shape[0] == 4 and branches.live_BP().any()
    assert OUTSIDE in fired(lambda: draft(past, page))
    assert WRONG in fired(lambda: draft(other_requests, page))
    assert "table_is_of_this_step" in fired(lambda: draft(stale, page))


@pytest.mark.parametrize("level", ["warn", "contain"])
@pytest.mark.parametrize("patches", [(), (FAULT,)])
def test_the_device_check_judges_the_bound(
    level: str, patches: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = armed(level, tmp_path)
    with applied(patches), install("test", live.hooks()):
        live.begin_step()
        assert verify(healthy) == 3
        with raising("slot", bool(patches) and level == "contain"):
            live.end_step({})
    assert live.device is not None and live.device.launches == 3
    lines = said(caplog)
    assert bool(lines) == bool(patches)
    assert not lines or ("kind=swa" in lines[0] and "layer=1" in lines[0] and OUTSIDE in lines[0])
