"""sglang's two kernels that make trtllm_mha's page tables, by their interpreter or by a way that is far faster.

Later releases build tables and lengths on the device: one kernel for an eager step, one that a graph records. A launch
of either takes some 20 ms interpreted. The fast ways below write what the kernels write, no more; a test holds them
against the interpreter. Earlier releases build tables by torch alone, and nothing is replaced there.
B: rows. P: columns of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from g4diag.hooks.anchors import has_module
from g4diag.hooks.attribute_patches import Swap, swap
from g4diag.stack.drive.allocation_kernels import Switch
from g4diag.stack.drive.driver import driver


def has_table_kernels() -> bool:
    """Whether the installed release has such kernels."""
    return bool(driver().FIXTURES.TABLE_KERNELS)


def are_where_they_were() -> bool:
    """Whether all that this release's drive names lie there."""
    return all(has_module(path.rpartition(".")[0]) for path in driver().FIXTURES.TABLE_KERNELS.values())


@contextmanager
def switchable_tables() -> Iterator[None]:
    """For the body, `allocation_kernels.use_interpreter` decides for these kernels too."""
    swaps = [Swap(path, partial(Switch, fast=_FAST[name])) for name, path in driver().FIXTURES.TABLE_KERNELS.items()]
    with swap("g4diag index kernels", swaps):
        yield


def fast_eager(
    req_to_token: Any,
    rows_B: Any,
    lens_B: Any,
    full_to_swa: Any,
    table_BP: Any,
    swa_table_BP: Any,
    *_: Any,
    PAGE_SIZE: int,
    HAS_SWA: bool,
) -> None:
    """The kernel of an eager step. It looks at each row's length, and not at the table's width: IndexError where a row
    would be written past the end of the table, which the kernel does."""
    for at, (row, length) in enumerate(zip(rows_B.tolist(), lens_B.tolist(), strict=True)):
        slots_P = req_to_token[row, : -(-length // PAGE_SIZE) * PAGE_SIZE : PAGE_SIZE]
        _write(table_BP, at, slots_P // PAGE_SIZE)
        if HAS_SWA:
            slots_P = full_to_swa[slots_P.long().clamp(0, len(full_to_swa) - 1)]
            _write(swa_table_BP, at, slots_P // PAGE_SIZE)


def _write(table_BP: Any, row: int, pages_P: Any) -> None:
    start = row * table_BP.shape[1]
    flat = table_BP.view(-1)
    if start + len(pages_P) > len(flat):
        raise IndexError(f"a row of {len(pages_P)} pages is written past the end of a table of {tuple(table_BP.shape)}")
    flat[start : start + len(pages_P)] = pages_P.to(flat.dtype)


def fast_graph(
    rows_B: Any,
    lens_B: Any,
    req_to_token: Any,
    full_to_swa: Any,
    out_slots_T: Any,
    query_lens_B: Any,
    key_lens_B: Any,
    key_ends: Any,
    query_ends: Any,
    table_BP: Any,
    swa_table_BP: Any,
    swa_slots_T: Any,
    batch: int,
    offset: int,
    columns: int,
    query_width: int,
    out_tokens: int,
    swa_tokens: int,
    *_: Any,
    PAGE_SIZE: int,
    HAS_SWA: bool,
    HAS_SWA_OUT: bool,
    Q_MODE: int,
    **unused: Any,
) -> None:
    """The kernel that a graph records: lengths, tables and the SWA slots to write to. Static pools."""
    import torch

    lens_B = (lens_B[:batch] + offset).to(torch.int32)
    key_lens_B[:batch] = lens_B
    key_ends[1 : batch + 1] = lens_B.cumsum(0)
    if Q_MODE == 1:
        query_ends[1 : batch + 1] = query_lens_B[:batch].cumsum(0)
    elif Q_MODE == 2:
        query_ends[1 : batch + 1] = torch.arange(1, batch + 1, dtype=torch.int32) * query_width
    for at, (row, length) in enumerate(zip(rows_B[:batch].tolist(), lens_B.tolist(), strict=True)):
        pages = min(-(-length // PAGE_SIZE), columns)
        slots_P = req_to_token[row, : pages * PAGE_SIZE : PAGE_SIZE]
        table_BP[at, :pages] = slots_P // PAGE_SIZE
        if HAS_SWA:
            swa_P = full_to_swa[slots_P.long()]
            swa_table_BP[at, :pages] = torch.where(swa_P < 0, -1, swa_P // PAGE_SIZE).to(swa_table_BP.dtype)
    if HAS_SWA_OUT:
        swa_slots_T[:swa_tokens] = 0
        slots_T = out_slots_T[:out_tokens]
        swa_slots_T[:out_tokens] = torch.where(slots_T < 0, -1, full_to_swa[slots_T.clamp(min=0)])


_FAST: dict[str, Callable[..., None]] = {"eager": fast_eager, "graph": fast_graph}
