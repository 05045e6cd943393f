"""MLA backends: what their kernels are handed is judged against the pool, eagerly and by the metadata of a graph, on
the host and by the device check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.hooks.install import install
from g4diag.model import AttentionRead, IndexSpace, View
from g4diag.scenario.measure import judge_all
from g4diag.stack.drive import mla_attention
from g4diag.stack.drive.mla_attention import DRAFTS, PAGE, PAGES, MlaServer
from g4diag.stack.probes.contract import Context, made
from g4diag.stack.probes.workers import Backends
from tests.stack.backends.device_checks import PAGE_TABLE, armed, raising, said

PATHS = [(path, verify) for path in ("eager", "graph") for verify in (False, True)]
each_backend = pytest.mark.parametrize("name", mla_attention.CLASSES)
each_path = pytest.mark.parametrize(("path", "verify"), PATHS)


def seen(name: str, path: str, verify: bool, spoiled: bool = False) -> list[AttentionRead]:
    views: list[View] = []
    hooks = [
        hook
        for probe in made(Context(Backends(views.append), views.append), frozenset({AttentionRead}))
        for hook in probe.hooks()
    ]
    server = MlaServer(name)
    with server, install("test", hooks):
        run(server, path, verify, spoiled)
    assert server.kernels.entries >= sum(server.lengths), "the reference read nothing"
    return [view for view in views if isinstance(view, AttentionRead)]


def run(server: MlaServer, path: str, verify: bool, spoiled: bool) -> Any:
    batch = getattr(server, path)(verify)
    if spoiled:  # the first id of the first row, which has more than one page
        ids = server.ids()
        ids[(0,) * ids.dim()] = bound(server.attention) + 3
    return server.forward(batch)


def bound(name: str) -> int:
    """Pages of the pool, page 0 among them, or its slots."""
    return (PAGES + 1) * (1 if name == "trtllm_mla" else PAGE)


@each_path
@each_backend
def test_a_healthy_read_is_seen_whole_and_nothing_is_said(name: str, path: str, verify: bool) -> None:
    (read,) = seen(name, path, verify)
    assert not [*judge_all(read)]
    assert (read.phase, read.path) == ("target_verify" if verify else "decode", path)
    assert read.pool.num_pages == bound(name) and read.pool.name == "mla"
    assert read.table_space is (IndexSpace.FULL_PAGE if name == "trtllm_mla" else IndexSpace.FULL_SLOT)
    lengths = [length + DRAFTS * verify for length in (100, 7, 64)]
    assert read.seq_lens_B.tolist() == lengths
    size = PAGE if name == "trtllm_mla" else 1
    assert int(read.live_BP().sum()) == sum(-(-length // size) for length in lengths)


@each_path
@each_backend
def test_an_id_past_the_pool_is_named(name: str, path: str, verify: bool) -> None:
    (read,) = seen(name, path, verify, spoiled=True)
    (violation,) = judge_all(read)
    assert violation.trap == PAGE_TABLE[0] and violation.value == bound(name) + 3 and violation.bound == bound(name)
    assert (violation.row, violation.column) == (0, 0)


@each_path
@each_backend
@pytest.mark.parametrize("level", ["warn", "contain"])
@pytest.mark.parametrize("spoiled", [False, True])
def test_the_device_check_judges_them(
    name: str, path: str, verify: bool, level: str, spoiled: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, live = MlaServer(name), armed(level, tmp_path)
    with server:
        wanted = run(server, path, verify, spoiled=False)
        with install("test", live.hooks()):
            live.begin_step()
            found = run(server, path, verify, spoiled)
            with raising("slot|page", spoiled and level == "contain"):
                live.end_step({})
    assert live.device is not None and live.device.launches == 1
    lines = said(caplog)
    assert len(lines) == spoiled and all(f" value={bound(name) + 3} " in line for line in lines)
    assert all(f" bound={bound(name)} " in line and " expected=" not in line for line in lines), "which is not known"
    assert bool(server.kernels.outside) == (spoiled and level == "warn")
    assert spoiled or found.equal(wanted)
