"""MLA backends: what their kernels are handed is judged against the pool, eagerly and by the metadata of a graph, on
the host and by the device check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.hooks.install import install
from g4diag.model import AttentionRead, IndexSpace, View
from g4diag.scenario.measure import judge_all
from g4diag.stack import backends
from g4diag.stack.backends import flashinfer_mla
from g4diag.stack.drive import mla_kernels
from g4diag.stack.drive.mla_attention import DRAFTS, PAGES, MlaServer
from g4diag.stack.drive.mla_kernels import Kernels
from g4diag.stack.probes.contract import Context, made
from g4diag.stack.probes.workers import Backends
from tests.stack.backends.device_checks import PAGE_TABLE, armed, raising, said

PATHS = [(path, verify) for path in ("eager", "graph") for verify in (False, True)]
# cutlass_mla keeps no buffers for a captured verify: sglang's own AttributeError.
CASES = [(name, *way) for name in mla_kernels.here() for way in PATHS if (name, *way) != ("cutlass_mla", "graph", True)]
each_read = pytest.mark.parametrize(("name", "path", "verify"), CASES)
Seen = Callable[..., list[AttentionRead]]


@pytest.fixture(scope="module")
def kernels() -> Iterator[Kernels]:
    kernels = Kernels()
    with mla_kernels.standing_in(kernels):
        yield kernels


@pytest.fixture(scope="module")
def seen(kernels: Kernels) -> Iterator[Seen]:
    """Reads of one forward, under the probes of every backend at once: hooks are slow to put on."""
    views: list[View] = []
    workers = Backends(views.append)
    assert set(mla_kernels.here()) <= {attention.name for attention in workers.attentions} and not workers.unwatched
    probes = made(Context(workers, views.append), frozenset({AttentionRead}))

    def reads(name: str, path: str, verify: bool, spoiled: bool = False) -> list[AttentionRead]:
        views.clear()
        kernels.entries = 0
        server = MlaServer(name, kernels)
        run(server, path, verify, spoiled)
        assert kernels.entries >= sum(server.keys(verify)), "the reference read nothing"
        return [view for view in views if isinstance(view, AttentionRead)]

    with install("test", [hook for probe in probes for hook in probe.hooks()]):
        yield reads


def run(server: MlaServer, path: str, verify: bool, spoiled: bool) -> Any:
    batch = getattr(server, path)(verify)
    if spoiled:  # the first id of the first row, which has more than one page
        ids = server.ids(verify)
        ids[(0,) * ids.dim()] = bound(server, verify) + 3
    return server.forward(batch)


def bound(server: MlaServer, verify: bool) -> int:
    """Pages of the pool, page 0 among them, or its slots."""
    return (PAGES + 1) * (1 if server.by_page(verify) else server.page)


def test_those_that_inherit_from_flashinfers_see_its_wrapper_too() -> None:
    """Its `run` is a method of a class that its module only imports."""
    heirs = [a for a in backends.known() if flashinfer_mla.CALL in a.calls]
    assert len(heirs) >= 6 and all(flashinfer_mla.CALL in heir.calls_here() for heir in heirs)


@each_read
def test_a_healthy_read_is_seen_whole_and_nothing_is_said(
    name: str, path: str, verify: bool, seen: Seen, kernels: Kernels
) -> None:
    (read,) = seen(name, path, verify)
    server = MlaServer(name, kernels)
    by_page = server.by_page(verify)
    assert not [*judge_all(read)]
    assert (read.phase, read.path) == ("target_verify" if verify else "decode", path)
    assert read.pool.num_pages == bound(server, verify) and read.pool.name == "mla"
    assert read.table_space is (IndexSpace.FULL_PAGE if by_page else IndexSpace.FULL_SLOT)
    lengths = [length + DRAFTS * (verify and name != "triton") for length in (100, 7, 64)]
    assert read.seq_lens_B.tolist() == lengths
    size = server.page if by_page else 1
    assert int(read.live_BP().sum()) == sum(-(-length // size) for length in lengths)


@each_read
def test_an_id_past_the_pool_is_named(name: str, path: str, verify: bool, seen: Seen, kernels: Kernels) -> None:
    (read,) = seen(name, path, verify, spoiled=True)
    past = bound(MlaServer(name, kernels), verify)
    (violation,) = [found for found in judge_all(read) if found.trap == PAGE_TABLE[0]]
    assert violation.value == past + 3 and violation.bound == past
    assert (violation.row, violation.column) == (0, 0)


@each_read
@pytest.mark.parametrize("level", ["warn", "contain"])
def test_the_device_check_judges_them(
    name: str,
    path: str,
    verify: bool,
    level: str,
    kernels: Kernels,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of this backend and those it inherits from: hooks are slow to put on.
    known = tuple(a for a in backends.known() if a.name in {name, "flashinfer_mla", "trtllm_mla"})
    monkeypatch.setattr(backends, "known", lambda: known)
    server, live = MlaServer(name, kernels), armed(level, tmp_path)
    wanted = run(server, path, verify, spoiled=False)
    with install("test", live.hooks()):
        live.begin_step()
        assert run(server, path, verify, spoiled=False).equal(wanted)
        live.end_step({})
        assert live.device is not None and live.device.launches == 1 and not said(caplog)
        kernels.outside = 0
        live.begin_step()
        run(server, path, verify, spoiled=True)
        with raising("slot|page", level == "contain"):
            live.end_step({})
    past = bound(server, verify)
    (line,) = said(caplog)
    assert f" value={past + 3} " in line and f" bound={past} " in line
    assert (" expected=" in line) == (name == "triton"), "what belongs there is known of triton's slots alone"
    assert live.device.launches == 2
    assert bool(kernels.outside) == (level == "warn")
