"""What the scenarios of the SWA allocator share: a small server's real allocator, and its book-keeping. No scenario."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.drive.swa_pool import build, free_pages

if TYPE_CHECKING:
    import torch

PAGE = 16
_EIGHT_PAGES = Geometry(
    full_tokens=8 * PAGE, ratio=0.75, page_size=PAGE, window=8, chunk=PAGE, prompt=40, live=1, requests=1
)


def small_server() -> Serving:
    """Eight full and six SWA pages, and a model that is not run."""
    return Serving(_EIGHT_PAGES, 0)


def small_allocator() -> Any:
    """The allocator of a server of that size, without the server."""
    return build(PAGE, full_pages=8, swa_pages=6, need_sort=False)


def int64(*values: int) -> torch.Tensor:
    """A tensor of them."""
    import torch

    return torch.tensor(values, dtype=torch.int64)


def extend(allocator: Any, tokens: int) -> torch.Tensor:
    """int64[tokens]: full slots of a new request, in full and SWA space."""
    slots: torch.Tensor = allocator.alloc_extend(int64(0), int64(0), int64(tokens), int64(tokens), int64(-1), tokens)
    return slots


def freed_twice(sub_allocator: Any) -> int:
    """Pages too many on its free list."""
    return sum(count - 1 for count in Counter(free_pages(sub_allocator)).values())
