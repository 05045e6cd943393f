"""A pool with other K/V in it, as in a server that has run for a while."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch


def warm(kv_pool: Any, seed: int) -> None:
    """Fill every buffer of a pool. In a cold one a clamped read of the last page sees zeros, which flatters or damns
    the clamp by accident."""
    buffers = (*kv_pool.k_buffer, *kv_pool.v_buffer)
    drawn = _drawn(seed, tuple((buffer.shape, buffer.dtype) for buffer in buffers))
    for buffer, values in zip(buffers, drawn, strict=True):
        buffer.copy_(values)


@lru_cache(maxsize=4)  # a scenario builds one server after another, of the same sizes
def _drawn(seed: int, buffers: tuple[tuple[torch.Size, torch.dtype], ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.empty(shape, dtype=dtype).normal_(generator=generator) for shape, dtype in buffers]
