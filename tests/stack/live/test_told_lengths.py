"""A draft's lengths are not copied again for its target, unless anything could have changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.stack.live import told_batch
from g4diag.stack.live.told_batch import Told, ToldBatches
from g4diag.stack.live.told_lengths import NOBODY, Lengths
from g4diag.stack.probes.request_rows import RequestRows

DRAFT, TARGET = "draft", "target"


class Counted(Lengths):
    """Counts its copies."""

    copies = 0

    def _copy(self, lengths_B: Any, requests: int) -> None:
        self.copies += 1
        super()._copy(lengths_B, requests)


def buffer() -> Counted:
    return Counted(torch.full((8,), NOBODY, dtype=torch.int64))


def told(lengths: Lengths) -> list[int]:
    """What is told, which ends where nobody begins."""
    found: list[int] = lengths.lengths_M.tolist()
    assert set(found[lengths.requests :]) == {NOBODY}
    return found[: lengths.requests]


def test_a_target_behind_its_draft_is_told_without_a_copy() -> None:
    lengths = buffer()
    for step in (1, 2, 3):
        of_step = torch.tensor([5, 6, 7]) + step
        lengths.tell(of_step, 3, DRAFT, step)
        lengths.tell(of_step, 3, TARGET, step)
        assert told(lengths) == of_step.tolist() and lengths.copies == step


def written_to(lengths_B: Any) -> tuple[Any, int, str, int]:
    lengths_B.add_(1)
    return lengths_B, 3, TARGET, 1


def written_to_through_a_view(lengths_B: Any) -> tuple[Any, int, str, int]:
    lengths_B[1:2].fill_(40)
    return lengths_B, 3, TARGET, 1


CHANGES: dict[str, Callable[[Any], tuple[Any, int, str, int]]] = {
    "written to": written_to,
    "written to through a view": written_to_through_a_view,
    "another tensor": lambda lengths_B: (lengths_B + 1, 3, TARGET, 1),
    "the same numbers elsewhere": lambda lengths_B: (lengths_B.clone(), 3, TARGET, 1),
    "a part of it": lambda lengths_B: (lengths_B, 2, TARGET, 1),
    "another step": lambda lengths_B: (lengths_B, 3, TARGET, 2),
    "the same teller again": lambda lengths_B: (lengths_B, 3, DRAFT, 1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_could_have_changed_is_copied(name: str) -> None:
    lengths, lengths_B = buffer(), torch.tensor([5, 6, 7])
    lengths.tell(lengths_B, 3, DRAFT, 1)
    asked = CHANGES[name](lengths_B)
    lengths.tell(*asked)
    assert lengths.copies == 2 and told(lengths) == asked[0][: asked[1]].tolist()


def test_what_nobody_counts_is_copied() -> None:
    """Steps, where the scheduler is not hooked, and what is written to a tensor of inference mode."""
    lengths, lengths_B = buffer(), torch.tensor([5, 6])
    lengths.tell(lengths_B, 2, DRAFT, 0)
    lengths.tell(lengths_B, 2, TARGET, 0)
    assert lengths.copies == 2
    with torch.inference_mode():
        lengths_B = torch.tensor([5, 6])
        lengths.tell(lengths_B, 2, DRAFT, 1)
        lengths_B.add_(1)
        lengths.tell(lengths_B, 2, TARGET, 1)
    assert lengths.copies == 4 and told(lengths) == [6, 7]


def test_nobodys_lengths_between_two_tellers_are_not_taken_for_theirs() -> None:
    lengths, lengths_B = buffer(), torch.tensor([5, 6])
    lengths.tell(lengths_B, 2, DRAFT, 1)
    lengths.tell(None, 0, TARGET, 1)
    assert told(lengths) == []
    lengths.tell(lengths_B, 2, TARGET, 1)
    assert told(lengths) == [5, 6]
    lengths.forget()
    assert told(lengths) == []
    lengths.tell(lengths_B, 2, DRAFT, 1)
    assert told(lengths) == [5, 6]


def test_graphs_that_replay_in_turn_share_lengths_and_no_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_batch, "_BUFFERS", {})
    batches = ToldBatches(RequestRows(), lambda *args: None)
    batches.hooks()
    like = torch.zeros(1)
    draft, verify, extend, own = (
        batches.of(worker, phase, like)
        for worker, phase in (
            *((DRAFT, "draft_decode"), (TARGET, "target_verify")),
            *((TARGET, "extend"), (DRAFT, "draft_extend_v2")),
        )
    )
    assert draft and verify and extend and own
    assert draft.lengths is verify.lengths
    assert len({id(told.lengths) for told in (draft, extend, own)}) == 3
    assert len({told.rows_M.data_ptr() for told in (draft, verify, extend, own)}) == 4


def test_who_is_told_of_fewer_has_no_rows_past_them() -> None:
    """A captured check judges no length without a row, so what another was told of more requests is not judged."""
    lengths = buffer()
    draft, target = (
        Told(lengths, *(torch.full((8,), NOBODY, dtype=torch.int64) for _ in range(2)), holds_requests=True)
        for _ in range(2)
    )
    four, rows_B = torch.tensor([5, 6, 7, 8]), torch.tensor([1, 2, 3, 4])
    draft.tell(four, rows_B, None, None, 4, 1)
    target.tell(four, rows_B, None, None, 2, 1)
    assert told(lengths) == [5, 6] and target.rows_M.tolist() == [1, 2, *[NOBODY] * 6]
    draft.tell(four, rows_B, None, None, 4, 2)
    assert told(lengths) == [5, 6, 7, 8] and target.rows_M.tolist() == [1, 2, *[NOBODY] * 6]


def test_a_copy_that_failed_leaves_the_next_batches_told() -> None:
    """Of the size of the batch before it, and of its own."""
    lengths = buffer()
    told_one = Told(lengths, *(torch.full((8,), NOBODY, dtype=torch.int64) for _ in range(2)), holds_slots=True)
    told_one.holds_requests = True
    three, odd = torch.tensor([5, 6, 7]), torch.zeros(2, 2, 2)
    told_one.tell(three, three, three, None, 3, 1)
    for lengths_B, slots_N in ((odd, three), (three, odd)):
        with pytest.raises(RuntimeError, match="broadcast shape"):
            told_one.tell(lengths_B, three, slots_N, None, -1, 2)
        for numbers in (three + 1, three[:2]):
            told_one.tell(numbers, numbers, numbers, None, -1, 3)
            assert told(lengths) == numbers.tolist()
            assert told_one.slots_M[: len(numbers)].tolist() == numbers.tolist()
        told_one.tell(three, three, three, None, 3, 3)
