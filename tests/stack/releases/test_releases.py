"""A release is known by its structure, its places are pinned by signature, and a newcomer is one file."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.errors import CannotRunError, PatchRefused
from g4diag.hooks import versions
from g4diag.hooks.anchors import Anchor, pin
from g4diag.hooks.install import install
from g4diag.model import AttentionRead, IndexSpace
from g4diag.stack import backends, releases
from g4diag.stack.live import arming, selection
from g4diag.stack.live.sink import Live
from g4diag.stack.releases.contract import Point
from tests import synthetic
from tests.releases import unlike

EVERY = releases.known()
OUTSIDE, INSIDE = "page_table_stays_in_pool", "page_table_in_layer_space"


def test_releases_are_found() -> None:
    assert {"0.5.12.post1", "0.5.13", "0.5.23"} <= set(EVERY)


def test_the_installed_one_is_known_exactly() -> None:
    found = releases.chosen()
    assert found is not None and found.exact and found.meant
    assert releases.require() is found.release


def test_every_place_of_the_installed_one_can_be_hooked() -> None:
    """Sight, not presence: the signature is held against what hooks unpack."""
    release = releases.current()
    for name in release.points:
        with install("test", [release.hook(name, "before", lambda *args, **kwargs: None)]) as on:
            assert on.targets == (release.path(name),)


def test_a_place_whose_arguments_changed_is_refused_with_both_sides() -> None:
    release = releases.current()
    moved = Point(release.path("pool.hybrid_write"), ("layer", "write_info"))
    changed = replace(release, points={**release.points, "pool.hybrid_write": moved})
    hook = changed.hook("pool.hybrid_write", "before", lambda *args, **kwargs: None)
    with pytest.raises(PatchRefused, match=r"wanted parameters layer, write_info, found layer, \w+"):
        install("test", [hook])


def test_a_place_that_a_release_lacks_says_why() -> None:
    changed = replace(releases.current(), points={}, lacks={"swa.free": "freed elsewhere"})
    with pytest.raises(PatchRefused, match="wanted a place to hook in this release, found freed elsewhere"):
        changed.hook("swa.free", "after", lambda *args: None)


def test_known_by_structure_and_not_by_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source build calls itself anything."""
    monkeypatch.setattr(versions, "version_of", lambda name: "0.0.0.dev1")
    found = releases.chosen()
    assert found is not None and found.exact and not found.meant and "by its structure like" in found.told
    assert releases.require() is found.release


def test_a_stack_that_is_only_nearly_one_is_not_driven(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = releases.current().known_by[0]
    monkeypatch.setattr(releases, "pin", lambda a: pin(Anchor(a.target, "not there")) if a == gone else pin(a))
    with pytest.raises(CannotRunError, match="which lacks"):
        releases.require()
    found = releases.chosen()
    assert found is not None and not found.exact, "traps may still fit, one by one"


def test_a_release_known_in_part_is_read_and_hooked_but_not_driven(monkeypatch: pytest.MonkeyPatch) -> None:
    found = releases.chosen()
    assert found is not None
    part = replace(found, release=replace(found.release, undriven="no driver is written"))
    monkeypatch.setattr(releases, "chosen", lambda: part)
    with pytest.raises(CannotRunError, match=r"wanted 0\.5\..*, found .*, known in part: no driver is written"):
        releases.require()
    assert releases.current.__wrapped__().points
    assert "0.5.12.post1" in releases.known() and "0.5.12.post1" not in releases.driven()


@pytest.mark.parametrize(("version", "said"), [(None, "found none"), ("0.4.0", "found 0.4.0")])
def test_no_sglang_or_one_like_none(version: str | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unlike(monkeypatch, version)
    for ask in (releases.current, releases.require):
        with pytest.raises(CannotRunError, match=said):
            ask()


STACK = """
class Tensor:
    pass

class Pool:
    def __init__(self, pages, page_size):
        self.page_size, self.k_buffer = page_size, [FakeRows(pages * page_size)]
    def get_key_buffer(self, layer_id):
        return self.k_buffer[0]

class FakeRows:
    def __init__(self, rows):
        self.shape = (rows, 1, 1)

class PagedBackend:
    def __init__(self, runner):
        self.token_to_kv_pool = runner.token_to_kv_pool
        self.table = self.lengths = None
    def table_for(self, layer, forward_batch):
        return self.table

class Loop:
    def turn(self, work):
        return work()
    def settle(self, work, outcome):
        return outcome
    def idle(self):
        pass
"""
RELEASE_FILE = """
from g4diag.hooks.anchors import Anchor
from g4diag.stack.releases.contract import Point, Readers, Release

RELEASE = Release(
    name="made-up",
    versions="==99.1",
    known_by=(Anchor("g4made.up", "class PagedBackend:"),),
    points={
        "scheduler.run_batch": Point("g4made.up.Loop.turn", ("work",)),
        "scheduler.process_batch_result": Point("g4made.up.Loop.settle", ("work", "outcome")),
        "scheduler.on_idle": Point("g4made.up.Loop.idle"),
    },
    read=Readers(
        request_row=lambda req: req.row,
        free_lists=lambda allocator: (),
        is_deferred=lambda allocator: False,
        is_swa_pool=lambda pool: False,
        layer_is_swa=lambda pool, layer_id: False,
        write_slots=lambda loc, rest, named: (loc, None),
    ),
    drive="none",
)
"""
BACKEND_FILE = """
from g4diag.model import IndexSpace
from g4diag.stack.backends.contract import Attention, Handed
from g4diag.stack.releases.contract import Point

ATTENTION = Attention(
    name="made_up",
    backend="g4made.up.PagedBackend",
    built=Point("g4made.up.PagedBackend.__init__", ("runner",)),
    table=Point("g4made.up.PagedBackend.table_for", ("layer", "forward_batch")),
    forwards=(),
    handed=lambda backend, layer, batch, table: Handed(
        table, backend.lengths, batch.req_pool_indices, IndexSpace.FULL_PAGE, False, False, 1
    ),
    metadata_is_graph=lambda backend: False,
    swa_state=lambda backend: None,
    graph_tables=lambda backend: None,
    keys_B=lambda backend, batch, frozen: backend.lengths,
)
"""


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A stack that nobody has seen, a release file and a backend file for it, all in a temporary folder."""
    for folder, name, text in [
        ("g4made", "up", STACK),
        ("releases", "made_up_release", RELEASE_FILE),
        ("backends", "made_up_backend", BACKEND_FILE),
    ]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(releases, "__path__", [*releases.__path__, str(tmp_path / "releases")])
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path / "backends")])
    monkeypatch.setattr(versions, "version_of", lambda name: "99.1")
    # Nothing but the made-up stack is there to be found.
    monkeypatch.setattr(releases, "pin", lambda a: pin(a if a.target.startswith("g4made") else Anchor("nowhere", "x")))
    releases.current.cache_clear()
    import g4made.up as module  # type: ignore[import-not-found]

    yield module
    releases.current.cache_clear()
    for name in [name for name in sys.modules if name.startswith("g4made") or "made_up" in name]:
        del sys.modules[name]


def test_a_release_and_a_backend_are_one_file_each(made_up, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Picked up, armed on a stack nobody has seen, and judged, with no other file touched."""
    from types import SimpleNamespace

    import torch

    assert releases.require().name == "made-up"
    pool = made_up.Pool(pages=8, page_size=4)
    runner = SimpleNamespace(
        token_to_kv_pool=pool,
        token_to_kv_pool_allocator=SimpleNamespace(get_kvcache=lambda: pool),
        is_draft_worker=False,
        spec_algorithm=SimpleNamespace(is_frozen_kv_mtp=lambda: False),
    )
    mode = SimpleNamespace(is_decode_or_idle=lambda: True, name="DECODE")
    batch = SimpleNamespace(req_pool_indices=torch.tensor([1, 2]), forward_mode=mode, spec_info=None)
    layer = SimpleNamespace(layer_id=3, sliding_window_size=-1)
    with arming.armed([OUTSIDE], tmp_path / "dumps") as on:
        assert on.traps == (OUTSIDE,) and not on.refused
        backend = made_up.PagedBackend(runner)
        backend.req_to_token_pool = SimpleNamespace(req_to_token=torch.zeros(3, 16, dtype=torch.int32))
        backend.lengths = torch.tensor([5, 6], dtype=torch.int32)
        backend.table = torch.tensor([[1, 2], [3, 7]], dtype=torch.int32)
        backend.table_for(layer, batch)
        assert len([r for r in caplog.records if r.name == "g4diag"]) == 1, "healthy: only what is armed is said"
        backend.table = torch.tensor([[1, 2], [3, 8]], dtype=torch.int32)
        backend.table_for(layer, batch)
    said = [r.getMessage() for r in caplog.records if "g4diag violation" in r.getMessage()]
    assert len(said) == 1, said
    for part in ("backend=PagedBackend", "layer=3", "row=1", "column=1", "value=8", "bound=8", f"trap={OUTSIDE}"):
        assert part in said[0]


def test_traps_arm_one_by_one(made_up, tmp_path: Path) -> None:
    """What does not fit is refused with wanted and found, while the rest is armed."""
    names = sorted(selection.traps())
    with arming.armed(names, tmp_path) as on:
        refused = {refused.trap: refused for refused in on.refused}
        assert OUTSIDE in on.traps and set(on.traps) | set(refused) == set(names)
        lacking = refused["slot_inside_allocator"]
        assert lacking.target == "swa.built" and "a place to hook in this release" in lacking.wanted
        assert "draft_writes_no_kv" in refused


def test_what_cannot_be_written_down_costs_the_traps_that_ask_for_it_alone(made_up, tmp_path: Path) -> None:
    names = ["mapping_is_what_was_handed_out", "request_row_is_of_its_request", "page_size_is_the_pools", OUTSIDE]
    with arming.armed(names, tmp_path) as on:
        assert on.traps == ("page_size_is_the_pools", OUTSIDE)
        assert [(refused.trap, refused.target) for refused in on.refused] == [
            ("mapping_is_what_was_handed_out", "swa.alloc"),
            ("request_row_is_of_its_request", "rows.alloc"),
        ]


def test_a_required_trap_that_does_not_fit_is_fatal(made_up, tmp_path: Path) -> None:
    from g4diag.settings import Selection

    before = synthetic.raw_snapshot(made_up)
    for require in (Selection(names=("slot_inside_allocator",)), Selection(everything=True)):
        with pytest.raises(PatchRefused, match="wanted a place to hook in this release"):
            arming.armed([OUTSIDE, "slot_inside_allocator"], tmp_path, require=require)
        assert not synthetic.differences(before, synthetic.raw_snapshot(made_up)), "nothing is left behind"
    with arming.armed([OUTSIDE, "slot_inside_allocator"], tmp_path, require=Selection(names=(OUTSIDE,))) as on:
        assert on.traps == (OUTSIDE,)


def test_none_that_fits_is_fatal_too(made_up, tmp_path: Path) -> None:
    with pytest.raises(PatchRefused, match="slot_inside_allocator"):
        arming.armed(["slot_inside_allocator"], tmp_path)


def test_on_the_installed_stack_every_trap_fits(tmp_path: Path) -> None:
    names = sorted(selection.traps())
    with arming.armed(names, tmp_path) as on:
        assert on.traps == tuple(names) and not on.refused
    assert Live([], None).hooks() == []


def test_a_view_says_which_space_its_table_is_in() -> None:
    (attention,) = [each for each in backends.fit().watched if each.name == "trtllm_mha"]
    assert attention.class_name == "TRTLLMHAAttnBackend"
    assert IndexSpace.FULL_PAGE and AttentionRead and INSIDE in selection.traps()
