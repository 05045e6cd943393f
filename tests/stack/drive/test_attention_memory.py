"""Attention that is kept: given again for the same bits, and for no others."""

from __future__ import annotations

import pytest
import torch

from g4diag.stack.drive.attention_memory import AttentionMemory
from g4diag.stack.drive.reference import attend

SCALE, WINDOW = 0.5, 5


def arguments() -> list[torch.Tensor]:
    """Q [4, 2, 8], a slice of a wider buffer as a model hands it; K and V [9, 1, 8]."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(4, 4 * 8, generator=generator)[:, : 2 * 8].unflatten(-1, (2, 8))
    return [q, torch.randn(9, 1, 8, generator=generator), torch.randn(9, 1, 8, generator=generator)]


def test_the_same_bits_elsewhere_are_answered_from_memory() -> None:
    memory = AttentionMemory(attend)
    first = memory(*arguments(), SCALE, WINDOW)
    assert memory.given_again == 0 and torch.equal(first, attend(*arguments(), SCALE, WINDOW))
    assert memory(*arguments(), SCALE, WINDOW) is first and memory.given_again == 1


@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_number_of_every_argument_counts(which: int) -> None:
    memory = AttentionMemory(attend)
    memory(*arguments(), SCALE, WINDOW)
    numbers = arguments()[which].numel()
    for at in range(numbers):
        changed = arguments()
        changed[which] = changed[which].clone()
        changed[which].view(-1)[at] *= -1
        assert torch.equal(memory(*changed, SCALE, WINDOW), attend(*changed, SCALE, WINDOW))
    assert numbers > 60 and memory.given_again == 0


def test_a_zero_of_the_other_sign_is_another_number() -> None:
    memory, given = AttentionMemory(attend), arguments()
    given[2][0] = 0.0
    memory(*given, SCALE, WINDOW)
    given[2][0] = -0.0
    memory(*given, SCALE, WINDOW)
    assert memory.given_again == 0


def test_scale_window_and_layout_count() -> None:
    memory, given = AttentionMemory(attend), arguments()
    assert not given[0].is_contiguous()
    for scale, window in ((SCALE, WINDOW), (SCALE, -1), (0.25, WINDOW)):
        assert torch.equal(memory(*given, scale, window), attend(*given, scale, window))
    memory(given[0].contiguous(), *given[1:], SCALE, WINDOW)
    memory(given[0], given[1].double(), *given[2:], SCALE, WINDOW)
    assert memory.given_again == 0
    memory(*given, SCALE, WINDOW)
    assert memory.given_again == 1


def test_arguments_written_to_afterwards_change_nothing_that_is_kept() -> None:
    memory, given = AttentionMemory(attend), arguments()
    first = memory(*given, SCALE, WINDOW).clone()
    for tensor in given:
        tensor.fill_(3.0)
    assert torch.equal(memory(*given, SCALE, WINDOW), attend(*given, SCALE, WINDOW))
    assert torch.equal(memory(*arguments(), SCALE, WINDOW), first) and memory.given_again == 1


def test_no_more_is_kept_than_there_is_room_for() -> None:
    memory = AttentionMemory(attend, limit=1000)  # of 1088 bytes for Q, K, V and the answer
    for _ in range(2):
        assert torch.equal(memory(*arguments(), SCALE, WINDOW), attend(*arguments(), SCALE, WINDOW))
    assert memory.given_again == 0


def test_a_k_that_is_no_longer_the_same_is_seen_behind_the_same_query() -> None:
    """What a faulty table would do to a prefill: the query is the same, one key of a page is not."""
    memory, given = AttentionMemory(attend), arguments()
    honest = memory(*given, SCALE, WINDOW).clone()
    given[1][4] = 7.0
    assert not torch.equal(memory(*given, SCALE, WINDOW), honest)
    assert memory.given_again == 0


def test_no_query_is_answered_as_without_memory() -> None:
    memory, (q, k, v) = AttentionMemory(attend), arguments()
    for again in (0, 1):
        assert memory(q[:0], k, v, SCALE, WINDOW).shape == attend(q[:0], k, v, SCALE, WINDOW).shape == (0, 2, 8)
        assert memory.given_again == again
