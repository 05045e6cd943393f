"""The K/V that EAGLE's drafting steps write in a graph is held against the slots of the batch that their runner was
handed. sglang's own worker, backends and graph runner, whose graphs are closures, and our kernels, interpreted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("sglang")

from g4diag.stack.drive.attention_backends import drivable, has_graphs, verifies_trees
from g4diag.stack.drive.draft_steps import DraftSteps
from g4diag.stack.drive.request_state import request_row
from g4diag.stack.drive.serving import Serving
from g4diag.stack.live.device_check import IN_GRAPHS, ON_DEVICE
from g4diag.stack.live.sink import Live
from g4diag.stack.live.step_slots import StepSlots, _step_of
from tests.injected import server as small
from tests.stack.live.test_device_graphs import armed, said
from tests.stack.live.test_draft_extend_graphs import copied, judged_by

JUDGED = frozenset({"table_is_of_this_step", "request_row_is_of_its_request", "kv_slots_in_layer_space"})
LAYERS = 2
DRAFTS = [(name, 1) for name in drivable() if has_graphs(name)] + [(n, 2) for n in drivable() if verifies_trees(n)]


def drafting(backend: str = "trtllm_mha", topk: int = 1, requests: int = 2, live: int = 2, **more: Any) -> DraftSteps:
    """Over a target with requests of different lengths."""
    sizes = replace(small.SIZES, live=live, full_tokens=2 * small.SIZES.full_tokens)
    draft = DraftSteps(Serving(sizes, seed=0, algorithm="EAGLE", backend=backend), topk, **more)
    for i in range(requests):
        small.admit(draft.serving, f"r{i}", small.PROMPT - (2 + i) * small.PAGE)
    if requests:
        draft.serving.decode()
    return draft


def grown(draft: DraftSteps) -> None:
    """So that old slots are other ones."""
    for _ in range(small.PAGE):
        draft.serving.decode()


def replayed(live: Live, draft: DraftSteps) -> Any:
    """One draft, as a step; its batch."""
    batch = draft.batch()
    slots = batch.out_cache_loc.tolist()
    live.begin_step()
    draft.replay(batch)
    live.end_step(draft.serving.rid_of)
    return slots


def before_plan(draft: DraftSteps, spoil: Callable[[Any], None]) -> None:
    """Let `spoil` at the runner's static slots once they are filled, before the metadata is made."""
    honest = draft.backend.init_forward_metadata_out_graph

    def planned(batch: Any, *args: Any, **kwargs: Any) -> None:
        spoil(draft.graphs.buffers.out_cache_loc)
        honest(batch, *args, **kwargs)

    draft.backend.init_forward_metadata_out_graph = planned


def not_filled(draft: DraftSteps) -> None:
    """The runner does not fill its slots."""
    old = draft.graphs.buffers.out_cache_loc.clone()
    before_plan(draft, lambda slots: slots.copy_(old))


def one_slot_off(draft: DraftSteps) -> None:
    """The last branch of the second request writes its second step's token one slot further."""
    at = (2 * draft.topk - 1) * draft.steps + 1
    before_plan(draft, lambda slots: slots[at].add_(1))


def steps_flipped(draft: DraftSteps) -> None:
    """The first request's first two steps write to each other's slot: each is the batch's own."""

    def flip(slots: Any) -> None:
        slots[:2] = slots[:2].flip(0).clone()

    before_plan(draft, flip)


FAULTS = {"slots of the batch before": not_filled, "one slot off": one_slot_off, "steps flipped": steps_flipped}


@pytest.mark.parametrize(("backend", "topk"), DRAFTS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_its_static_slots_is_named_by_the_trap_of_slots_and_by_no_other(
    name: str, backend: str, topk: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with armed(tmp_path, JUDGED) as live:
        draft = drafting(backend, topk)
        old = replayed(live, draft)
        grown(draft)
        assert not said(caplog), "healthy so far"
        FAULTS[name](draft)
        assert replayed(live, draft) != old
    assert said(caplog) == ["kv_slots_in_layer_space"]
    (line,) = [record.message for record in caplog.records if "trap=" in record.message]
    assert "worker=draft" in line and "phase=draft_decode" in line and "path=graph" in line


@pytest.mark.parametrize("topk", [1, 2])
def test_tritons_flat_slots_are_judged_beyond_where_the_batch_of_the_capture_ended(
    topk: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with armed(tmp_path, IN_GRAPHS | ON_DEVICE) as live:
        draft = drafting("triton", topk)
        step = draft.backend.attn_backends[0]
        replayed(live, draft)
        assert not said(caplog), "healthy so far"
        last = int(step.kv_indptr[2 * topk]) - 1
        assert last > 2 * topk * draft.steps, "more than while it was captured"
        honest = draft.backend.init_forward_metadata_out_graph

        def planned(batch: Any, *args: Any, **kwargs: Any) -> None:
            honest(batch, *args, **kwargs)
            step.cuda_graph_kv_indices[last] = 1 << 20

        draft.backend.init_forward_metadata_out_graph = planned
        replayed(live, draft)
    assert said(caplog) == ["page_table_stays_in_pool"]


@pytest.mark.parametrize(("backend", "topk"), DRAFTS)
@pytest.mark.parametrize("copied", [False, True])
def test_healthy_ones_of_every_size_are_told_and_leave_no_word(
    backend: str,
    topk: int,
    copied: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """copied: each step's forward copies what it is handed first, as on a GPU; else its slots are not side by side."""
    monkeypatch.setenv("SGLANG_EAGER_INPUT_NO_COPY", str(int(not copied)))
    with armed(tmp_path, JUDGED) as live:
        draft = drafting(backend, topk, requests=0, live=4, copied=copied)
        assert live.device is not None and draft.graphs.capture_bs == [1, 2, 4]
        for i in range(4):  # 3 requests are padded to 4
            small.admit(draft.serving, f"r{i}", small.PROMPT - (2 + i) * small.PAGE)
            draft.serving.decode()
            before = live.device.launches, live.device.writes.launches
            slots = replayed(live, draft)
            # Both layers write to one pool, in every step but the last; each of the two is judged in one launch.
            assert live.device.launches > before[0]
            assert live.device.writes.launches == before[1] + LAYERS * (draft.steps - 1)
            told, running = live.device.told.of("draft", "draft_decode", torch.zeros(1)), draft.serving.running
            assert told is not None and told.requests == i + 1 and len(slots) == (i + 1) * topk * draft.steps
            assert told.slots_M[: len(slots) + 1].tolist() == [*slots, -1]
            assert told.rows_M[: i + 2].tolist() == [*map(request_row, running.reqs), -1]
        assert not said(caplog)
        one_slot_off(draft)
        replayed(live, draft)
    assert said(caplog) == ["kv_slots_in_layer_space"]


@pytest.mark.parametrize("copied", [False, True])
def test_a_model_whose_steps_share_one_contiguous_copy_of_the_slots_is_judged(
    copied: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGLANG_EAGER_INPUT_NO_COPY", str(int(not copied)))
    with armed(tmp_path, JUDGED) as live:
        draft = drafting(architecture="Qwen3MoeForCausalLMMTP", copied=copied)
        replayed(live, draft)
        assert not said(caplog)
        steps_flipped(draft)
        replayed(live, draft)
    assert said(caplog) == ["kv_slots_in_layer_space"]


@judged_by(slots=6)
def test_what_nobody_judges_is_not_copied(
    names: set[str], rows: int | None, slots: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (rows, slots) == copied(
        "draft_decode", names, lambda live: replayed(live, drafting()), tmp_path, monkeypatch
    )


def cut(slots_M: Any) -> Any:
    """3 steps of 2 requests with 2 branches each."""
    return slots_M.view(2, 2, 3).permute(2, 0, 1).reshape(3, -1)


def test_a_step_is_known_by_the_memory_of_its_slots() -> None:
    slots = torch.arange(100, 120)[4:16]
    parts = cut(slots)
    for step, part in enumerate(parts):
        assert _step_of(part, parts) == _step_of(parts.contiguous()[step], parts) == step
    # Part of another step or no step of its own, of another batch, of another width, and none.
    for other in (slots[1:5], parts.contiguous().flatten()[2:6], torch.arange(4), parts[0, :3], parts[0].int(), None):
        assert _step_of(other, parts) is None


def test_where_no_step_is_known_no_batch_is() -> None:
    steps, told = StepSlots(), torch.arange(20)
    runner, batch = object(), SimpleNamespace(out_cache_loc=None)
    seen: list[bool] = []
    forward = lambda *args: seen.append(steps.is_one(4))  # noqa: E731
    steps._within(forward, runner, batch)
    parts = steps._cuts(cut, torch.arange(100, 112))
    steps._within(forward, runner, batch)  # it writes nothing
    batch.out_cache_loc = parts[1].clone()
    steps._within(forward, runner, batch)  # to slots of its own
    batch.out_cache_loc = parts[1]
    steps._within(lambda *args: seen.append(steps.is_one(3)), runner, batch)  # of another width than it was handed
    assert seen == [False] * 4 and not steps.is_one(4)
    steps._within(lambda *args: seen.append(steps.of(told).tolist() == [1, 4, 7, 10]), runner, batch)
    steps._within(lambda *args: seen.append(steps.is_one(4) and steps.of(told[:11]) is None), runner, batch)
    assert seen[4:] == [True, True]
