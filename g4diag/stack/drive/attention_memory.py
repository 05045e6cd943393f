"""Attention computed once for what is asked again: a scenario prefills the same prompts in one state after another.

Nothing is taken on trust: an answer is given again where the layout, the scale, the window and every bit of Q, K and V
are those that it was computed for. A state whose K/V differ anywhere has its own computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float, int], torch.Tensor]


class AttentionMemory:
    """`attend`, an exact function of its arguments, that keeps up to `limit` bytes of arguments and answers.

    given_again: calls that were answered from what is kept. Who is answered must not write to the answer."""

    def __init__(self, attend: Attend, limit: int = 128 << 20) -> None:
        self._attend, self._room = attend, limit
        self._kept: dict[Any, list[tuple[list[bytes], torch.Tensor]]] = {}
        self.given_again = 0

    def __call__(
        self, q_QHD: torch.Tensor, k_NKD: torch.Tensor, v_NKD: torch.Tensor, scale: float, window: int
    ) -> torch.Tensor:
        """Arguments and answer are those of `reference.attend`."""
        tensors = (q_QHD, k_NKD, v_NKD)
        # One query's numbers tell nearly all calls of one layout apart; the bytes decide.
        layouts = ((t.shape, t.stride(), t.dtype) for t in tensors)
        likely = (scale, window, *layouts, *q_QHD[-1:, -1:].flatten().tolist())
        given = [_bytes(t) for t in tensors]
        for arguments, answer in self._kept.get(likely, ()):
            if arguments == given:
                self.given_again += 1
                return answer
        answer = self._attend(q_QHD, k_NKD, v_NKD, scale, window)
        size = sum(map(len, given)) + answer.nbytes
        if size <= self._room:
            self._room -= size
            self._kept.setdefault(likely, []).append((given, answer))
        return answer


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()
