"""An EAGLE draft's extend in a graph is held against the batch that its runner was handed: lengths, request rows and
the slots of its own K/V; so is each step's of a draft of several models. sglang's own graph runner, whose graphs are
closures, and our kernels, interpreted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("sglang")

from sglang.srt.layers.attention.triton_backend import TritonAttnBackend

from g4diag.stack.drive.attention_backends import drivable, has_graphs
from g4diag.stack.drive.draft_extend import DraftExtend
from g4diag.stack.drive.layers_extend import LayersExtend
from g4diag.stack.drive.request_state import request_row
from g4diag.stack.drive.serving import Serving
from g4diag.stack.live import told_batch
from g4diag.stack.live.sink import Live
from g4diag.stack.releases import current
from tests.injected import server as small
from tests.stack.live.test_device_graphs import armed, said

JUDGED = frozenset({"table_is_of_this_step", "request_row_is_of_its_request", "kv_slots_in_layer_space"})


def clips_in_graphs() -> bool:
    """Whether triton's graphs have indices for a draft's sliding layers; up to 0.5.13 they are handed none."""
    update = TritonAttnBackend._update_draft_extend_buffers
    return "update_sliding_window_buffer" in update.__code__.co_names


BACKENDS = [name for name in drivable() if has_graphs(name) and (name != "triton" or clips_in_graphs())]
KINDS = [DraftExtend, *([LayersExtend] if current().has("replay.layers_extend") else [])]
Kind = type[DraftExtend]


def extending(backend: str = "trtllm_mha", requests: int = 2, live: int = 2, kind: Kind = DraftExtend) -> DraftExtend:
    """Over a target with requests of different lengths, each with as many tokens as a verify looks at and a page."""
    sizes = replace(small.SIZES, live=live, full_tokens=2 * small.SIZES.full_tokens)
    draft = kind(Serving(sizes, seed=0, algorithm="EAGLE", backend=backend))
    for i in range(requests):
        small.admit(draft.serving, f"r{i}", small.PROMPT - (2 + i) * small.PAGE)
    if requests:
        grown(draft)
    return draft


def grown(draft: DraftExtend) -> None:
    """So that old lengths and old slots are other ones."""
    for _ in range(draft.width + 1):
        draft.serving.decode()


def replayed(live: Live, draft: DraftExtend, batch: Any = None) -> None:
    """One draft extend, as a step."""
    live.begin_step()
    draft.replay(draft.batch() if batch is None else batch)
    live.end_step(draft.serving.rid_of)


def before_plan(draft: DraftExtend, spoil: Callable[[Any], None]) -> None:
    """Let `spoil` at the runner's static buffers once they are filled, before the metadata is made of them."""
    planner: tuple[Any, str] = (draft.backend, "init_forward_metadata_out_graph")
    if isinstance(draft, LayersExtend):
        planner = (draft.graphs, "_stage_metadata")
    honest = getattr(*planner)

    def planned(*args: Any, **kwargs: Any) -> None:
        spoil(draft.graphs.buffers)
        honest(*args, **kwargs)

    setattr(*planner, planned)


def kept(name: str) -> Callable[[DraftExtend], None]:
    """The runner does not fill this buffer."""

    def put(draft: DraftExtend) -> None:
        old = getattr(draft.graphs.buffers, name).clone()
        before_plan(draft, lambda buffers: getattr(buffers, name).copy_(old))

    return put


def rows_flipped(draft: DraftExtend) -> None:
    """Each of two requests' rows is read for the other."""

    def flip(buffers: Any) -> None:
        buffers.req_pool_indices[:2] = buffers.req_pool_indices[:2].flip(0).clone()

    before_plan(draft, flip)


def slot_one_off(draft: DraftExtend) -> None:
    """The second request's last token is written one slot further."""
    last = 2 * draft.width - 1
    before_plan(draft, lambda buffers: buffers.out_cache_loc[last].add_(1))


FAULTS: dict[str, tuple[Callable[[DraftExtend], None], str]] = {
    "lengths of the batch before": (kept("seq_lens"), "table_is_of_this_step"),
    "another request's row": (rows_flipped, "request_row_is_of_its_request"),
    "slots of the batch before": (kept("out_cache_loc"), "kv_slots_in_layer_space"),
    "one slot off": (slot_one_off, "kv_slots_in_layer_space"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_its_static_buffers_is_named_by_the_trap_of_its_kind_and_by_no_other(
    name: str, backend: str, kind: Kind, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put, expected = FAULTS[name]
    with armed(tmp_path, JUDGED) as live:
        draft = extending(backend, kind=kind)
        replayed(live, draft)
        grown(draft)
        assert not said(caplog), "healthy so far"
        put(draft)
        replayed(live, draft)
    assert said(caplog) == [expected]
    (line,) = [record.message for record in caplog.records if "trap=" in record.message]
    assert "worker=draft" in line and "phase=draft_extend_v2" in line and "path=graph" in line


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_healthy_ones_of_every_size_are_told_and_leave_no_word(
    backend: str, kind: Kind, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with armed(tmp_path, JUDGED) as live:
        draft = extending(backend, requests=0, live=4, kind=kind)
        assert live.device is not None and draft.graphs.capture_bs == [1, 2, 4]
        for i in range(4):  # 3 requests are padded to 4
            small.admit(draft.serving, f"r{i}", small.PROMPT - (2 + i) * small.PAGE)
            grown(draft)
            before = live.device.launches, live.device.writes.launches
            replayed(live, draft)
            assert live.device.launches > before[0] and live.device.writes.launches > before[1]
            told, running = live.device.told.of("draft", "draft_extend_v2", torch.zeros(1)), draft.serving.running
            assert told is not None and told.requests == i + 1 and told.tokens == (i + 1) * draft.width
            assert told.lengths_M[: i + 2].tolist() == [*running.seq_lens.tolist(), -1]
            assert told.rows_M[: i + 2].tolist() == [*map(request_row, running.reqs), -1]
    assert not said(caplog)


def test_one_for_an_idle_rank_is_held_against_no_batch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Under DP attention it replays padding alone; a batch after it is judged again."""
    from sglang.srt.model_executor.forward_batch_info import ForwardMode

    with armed(tmp_path, JUDGED) as live:
        draft = extending()
        replayed(live, draft)
        idle = copy.copy(draft.batch())
        idle.forward_mode, idle.batch_size = ForwardMode.IDLE, 0
        idle.extend_seq_lens_cpu, idle.seq_lens_sum = [], 0
        spec_info = copy.copy(idle.spec_info)
        for holder, names in (
            (idle, "input_ids seq_lens seq_lens_cpu req_pool_indices out_cache_loc positions extend_seq_lens"),
            (spec_info, "hidden_states num_correct_drafts num_accept_tokens"),
        ):
            for name in names.split():
                setattr(holder, name, getattr(holder, name)[:0])
        idle.spec_info = spec_info
        replayed(live, draft, idle)
        assert live.device is not None
        told = live.device.told.of("draft", "draft_extend_v2", torch.zeros(1))
        assert told is not None and max(int(t.max()) for t in (told.lengths_M, told.rows_M, told.slots_M)) == -1
        assert not said(caplog)
        slot_one_off(draft)
        replayed(live, draft)
    assert said(caplog) == ["kv_slots_in_layer_space"]


def judged_by(slots: int) -> pytest.MarkDecorator:
    """Traps, and of two requests what is told where those are armed: requests, and of their tokens `slots`."""
    told = [({"kv_slots_in_layer_space"}, 0, slots), ({"table_is_of_this_step"}, 2, 0)]
    return pytest.mark.parametrize(("names", "rows", "slots"), [*told, ({"page_table_stays_in_pool"}, None, None)])


@judged_by(slots=8)
def test_what_nobody_judges_is_not_copied(
    names: set[str], rows: int | None, slots: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (rows, slots) == copied(
        "draft_extend_v2", names, lambda live: replayed(live, extending()), tmp_path, monkeypatch
    )


def copied(
    phase: str, names: set[str], replay: Callable[[Live], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int | None, int | None]:
    """Requests and tokens that are told of a draft's batch of this phase under these traps; None where it has no
    buffers."""
    monkeypatch.setattr(told_batch, "_BUFFERS", {})
    with armed(tmp_path, frozenset(names)) as live:
        replay(live)
        told = told_batch._BUFFERS.get(("draft", phase, torch.device("cpu")))
    return (None, None) if told is None else (told.requests, told.tokens)
