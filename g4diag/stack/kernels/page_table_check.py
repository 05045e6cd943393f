"""Check a page table on the device, where a layer is given it; no host sync, so it can live inside a CUDA graph.

One program a table row, several a row of flat slots, walks the columns the attention kernel may dereference and
compares each id with the size of the layer's own k_cache and, where the request table is at hand, with the id that
belongs there. It touches the verdict only when something is wrong. The verdict is pinned host memory: the host reads
it without a copy, and still after a later kernel has killed the context.

Legend: B rows, P table columns, V verdict words.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

# Verdict words, int64. COUNT and WRONG grow; the rest belong to the first bad entry, whose writer set CLAIMED.
WORDS = (
    "claimed",
    "outside",
    "wrong",
    "site",
    "row",
    "column",
    "value",
    "expected",
    "bound",
    "step",
    "seq_len",
    "req_row",
)
CLAIMED, OUTSIDE, WRONG, SITE, ROW, COLUMN, VALUE, EXPECTED, BOUND, STEP, SEQ_LEN, REQ_ROW = range(len(WORDS))
NOT_KNOWN = -1
# Programs a row of flat slots, which is a page's tokens times as long as one of pages. Interpreted they run one after
# another.
_FLAT_SPLITS = 2 if triton.knobs.runtime.interpret else 8


@triton.jit
def _tell(verdict_V, site, row, at, value, expected, bound, step, seq_len, req_row):
    """Write the first bad entry, if nobody has yet."""
    if tl.atomic_cas(verdict_V, tl.full((), 0, tl.int64), tl.full((), 1, tl.int64), scope="sys") == 0:
        tl.store(verdict_V + 3, site.to(tl.int64))
        tl.store(verdict_V + 4, row.to(tl.int64))
        tl.store(verdict_V + 5, at.to(tl.int64))
        tl.store(verdict_V + 6, value.to(tl.int64))
        tl.store(verdict_V + 7, expected.to(tl.int64))
        tl.store(verdict_V + 8, bound.to(tl.int64))
        tl.store(verdict_V + 9, step)
        tl.store(verdict_V + 10, seq_len.to(tl.int64))
        tl.store(verdict_V + 11, req_row)


@triton.jit
def _belongs(request_row, mapping, page, known, value, PAGE: tl.constexpr, MAPPED: tl.constexpr):
    """Id that belongs at each page of a row, `value` where it is not known."""
    slot = tl.load(request_row + page * PAGE, mask=known, other=0)
    if MAPPED:
        slot = tl.load(mapping + slot.to(tl.int64), mask=known, other=0)
    return tl.where(known, (slot // PAGE).to(tl.int64), value)


@triton.jit
def _flat_row(indptr_B1, row, size, seq_len, CLIPPED: tl.constexpr):
    """(where the row starts, how many ids it has, keys before its first id). A broken indptr must not lead us past the
    buffer of `size` ids."""
    start = tl.minimum(tl.maximum(tl.load(indptr_B1 + row).to(tl.int64), 0), size)
    end = tl.minimum(tl.load(indptr_B1 + row + 1).to(tl.int64), size)
    count = (end - start).to(tl.int32)
    skipped = tl.maximum(seq_len - count, 0) if CLIPPED else seq_len * 0
    return start, count, skipped


@triton.jit
def _count(verdict_V, outside, wrong, column, value, expected, site, row, bound, step_1, seq_len, req_row):
    """Add what one block found. An entry outside the pool is the louder fact, so it is the one to name if there is."""
    tl.atomic_add(verdict_V + 1, tl.sum(outside.to(tl.int64), axis=0), scope="sys")
    tl.atomic_add(verdict_V + 2, tl.sum(wrong.to(tl.int64), axis=0), scope="sys")
    named = outside if tl.sum(outside.to(tl.int32), axis=0) > 0 else wrong
    at = tl.min(tl.where(named, column, 2147483647), axis=0)
    its_value = tl.sum(tl.where(column == at, value, 0), axis=0)
    belongs = tl.sum(tl.where(column == at, expected, 0), axis=0)
    _tell(verdict_V, site, row, at, its_value, belongs, bound, tl.load(step_1).to(tl.int64), seq_len, req_row)


@triton.jit(do_not_specialize=["site", "bound", "columns", "request_columns"])
def _check(
    table_BP,
    out_BP,
    indptr_B1,
    seq_lens_B,
    req_rows_B,
    request_table,
    mapping,
    verdict_V,
    step_1,
    site,
    bound,
    stride_table,
    stride_out,
    stride_request,
    request_columns,
    columns,
    PAGE: tl.constexpr,
    WINDOW: tl.constexpr,
    QUERIES: tl.constexpr,
    FLAT: tl.constexpr,
    CLIPPED: tl.constexpr,
    KNOWS_FULL: tl.constexpr,
    MAPPED: tl.constexpr,
    CONTAIN: tl.constexpr,
    BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    seq_len = tl.load(seq_lens_B + row).to(tl.int32)
    last = (seq_len - 1) // PAGE
    first = tl.maximum(seq_len - QUERIES - WINDOW, 0) // PAGE if WINDOW >= 0 else 0
    row_at, out_at, skipped = row * stride_table, row * stride_out, 0
    if FLAT:
        # A flat row is read whole: it has no entry that the kernel leaves out.
        row_at, columns, skipped = _flat_row(indptr_B1, row, columns, seq_len, CLIPPED)
        out_at, first, last = row_at, 0, columns - 1
    req_row = tl.load(req_rows_B + row).to(tl.int64)
    start = 0 if CONTAIN else (first // BLOCK) * BLOCK
    end = columns if CONTAIN else tl.minimum(last + 1, columns)
    for block in range(start + tl.program_id(1) * BLOCK, end, BLOCK * SPLITS):
        column = block + tl.arange(0, BLOCK)
        inside = column < columns
        live = inside & (column >= first) & (column <= last)
        value = tl.load(table_BP + row_at + column, mask=inside, other=0).to(tl.int64)
        outside = live & ((value < 0) | (value >= bound))
        expected = value
        if KNOWS_FULL:
            # Row 0 of the request table is the padding row of graph batches: nothing belongs there.
            known = live & (req_row > 0) & (skipped + column < request_columns)
            at = request_table + req_row * stride_request
            expected = _belongs(at, mapping, skipped + column, known, value, PAGE, MAPPED)
        wrong = (live & (value != expected)) if KNOWS_FULL else outside
        if CONTAIN:
            # The whole row, not only what is live: kernels load whole tiles and mask keys afterwards.
            legal = (value >= 0) & (value < bound)
            tl.store(out_BP + out_at + column, tl.where(legal, value, 0), mask=inside)
        if tl.sum((outside | wrong).to(tl.int32), axis=0) > 0:
            _count(verdict_V, outside, wrong, column, value, expected, site, row, bound, step_1, seq_len, req_row)


@dataclass(frozen=True)
class Verdict:
    """What the device found since `clear`. outside, wrong: entries counted, every step again. The rest describe the
    first bad entry; expected is what belongs there, in the layer's own space."""

    outside: int
    wrong: int
    site: int
    row: int
    column: int
    value: int
    expected: int
    bound: int
    step: int
    seq_len: int
    req_row: int


class VerdictBox:
    """The verdict's memory: pinned where there is CUDA, so that reading it is a host load and outlives the context."""

    def __init__(self) -> None:
        self.words_V = torch.zeros(len(WORDS), dtype=torch.int64, pin_memory=torch.cuda.is_available())
        self._host_V = self.words_V.numpy()  # taken now: after a dead context even a pinned tensor's methods may fail
        self.clear()

    def read(self) -> Verdict | None:
        """The verdict so far, None while nothing was found. No synchronisation: a bad entry shows once its kernel
        has run, at the latest at the next point where the server itself waits for the device."""
        words = self._host_V.tolist()
        if not words[CLAIMED]:
            return None
        return Verdict(words[OUTSIDE], words[WRONG], *words[SITE:])

    def clear(self) -> None:
        """Forget. Call only where the device is known to be idle."""
        self._host_V[:] = NOT_KNOWN
        self._host_V[[CLAIMED, OUTSIDE, WRONG]] = 0


def check_page_table(
    table_BP: torch.Tensor,
    seq_lens_B: torch.Tensor,
    req_rows_B: torch.Tensor,
    verdict: VerdictBox,
    step_1: torch.Tensor,
    *,
    site: int,
    bound: int,
    page_size: int,
    window: int,
    queries: int,
    request_table: torch.Tensor | None = None,
    mapping: torch.Tensor | None = None,
    contain: bool = False,
    indptr_B1: torch.Tensor | None = None,
    clipped: bool = False,
) -> torch.Tensor:
    """Launch the check of one table. Returns `table_BP`, or with `contain` a copy in which every id outside the pool,
    live or not, is page 0.

    table_BP: int32 [B, P], rows may be strided; or flat, int32 or int64 [N], of which row b has those from indptr_B1[b]
    to indptr_B1[b + 1], a row's last keys where clipped, else all; a flat copy is filled as far. seq_lens_B: int32,
    keys a row with this step's queries. req_rows_B: int64. step_1: int64, one element, on the device. site: names
    layer and backend to the reader. bound: pages of the layer's k_cache. window: keys left of a query, -1 for all.
    queries: of each row. request_table: req_to_token, int32 [rows, tokens]; without it only the bound is checked.
    mapping: full_to_swa_index_mapping, int64, for a layer addressed in SWA pages.
    """
    flat, none = indptr_B1 is not None, verdict.words_V  # a pointer that is never followed
    rows, columns = table_BP.shape if indptr_B1 is None else (len(indptr_B1) - 1, len(table_BP))
    out_BP = torch.empty_like(table_BP, memory_format=torch.contiguous_format) if contain else table_BP
    known = () if request_table is None else (request_table.stride(0), -(-request_table.shape[1] // page_size))
    _check[(rows, splits := _FLAT_SPLITS if flat else 1)](
        table_BP,
        out_BP,
        none if indptr_B1 is None else indptr_B1,
        seq_lens_B,
        req_rows_B,
        none if request_table is None else request_table,
        none if mapping is None else mapping,
        verdict.words_V,
        step_1,
        site,
        bound,
        *((0, 0) if flat else (table_BP.stride(0), out_BP.stride(0))),
        *(known or (0, 0)),
        columns,
        PAGE=page_size,
        WINDOW=window,
        QUERIES=queries,
        FLAT=flat,
        CLIPPED=clipped,
        KNOWS_FULL=request_table is not None,
        MAPPED=mapping is not None,
        CONTAIN=contain,
        BLOCK=512 if flat else 128,
        SPLITS=splits,
        num_warps=4 if flat else 1,
    )
    return out_BP
