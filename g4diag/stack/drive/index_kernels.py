"""sglang's small Triton kernels that compute ids: those of its allocator, and those that make trtllm_mha's page tables.

On a CPU Triton interprets them, which is two fifths of what a scenario costs. Here they go by their equals in torch:
see `allocation_kernels` and `table_kernels`, and tests/stack/drive, which holds each against the interpreted kernel.
None of them touches K/V.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from g4diag.stack.drive.allocation_kernels import (
    has_allocation_kernels,
    interpreter,
    is_switchable,
    switchable,
)
from g4diag.stack.drive.table_kernels import are_where_they_were, switchable_tables


@contextmanager
def in_torch(interpreted: bool = False) -> Iterator[None]:
    """For the body these kernels go by torch; `interpreted`: by Triton's interpreter, as without this, and as in a
    release that has them elsewhere. One may stand inside another."""
    if not has_allocation_kernels() or not are_where_they_were():
        yield
        return
    if is_switchable():
        with interpreter(interpreted):
            yield
        return
    with switchable(), switchable_tables(), interpreter(interpreted):
        yield
