"""Check a page table on the device, where a layer is given it; no host sync, so it can live inside a CUDA graph.

One program a table row, several a row of flat slots, walks the columns the attention kernel may dereference and
compares each id with the size of the layer's own k_cache and, where the request table is at hand, with the id that
belongs there. All that shares these loads is judged in the same launch: whether what belongs there has an SWA page,
whether that is the one handed out with it, and whether lengths and request rows are those of the batch. It touches the
verdict only when something is wrong.

Legend: B rows, P table columns, M full slots, V verdict words.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from g4diag.stack.kernels.claims import LENGTHS, REMAPPED, ROWS, UNMAPPED, WORDS
from g4diag.stack.kernels.verdict import VerdictBox, count, count_row, count_wrong

_UNMAPPED, _REMAPPED = tl.constexpr(UNMAPPED * len(WORDS)), tl.constexpr(REMAPPED * len(WORDS))
_LENGTHS, _ROWS = tl.constexpr(LENGTHS * len(WORDS)), tl.constexpr(ROWS * len(WORDS))

# Programs a row of flat slots, which is a page's tokens times as long as one of pages. Interpreted they run one after
# another.
_FLAT_SPLITS = 2 if triton.knobs.runtime.interpret else 8


@triton.jit
def _page(slot, PAGE: tl.constexpr):
    """Page of a slot; -1 for what is no slot, where a division would round to page 0."""
    return tl.where(slot < 0, -1, slot // PAGE)


@triton.jit
def _mapped(mapping, page, pages, known, PAGE: tl.constexpr):
    """SWA page of each full page by this mapping, -1 outside of it."""
    inside = known & (page >= 0) & (page < pages)
    return _page(tl.load(mapping + page * PAGE, mask=inside, other=-1), PAGE)


@triton.jit
def _flat_row(indptr_B1, row, size, seq_len, CLIPPED: tl.constexpr):
    """(where the row starts, how many ids it has, keys before its first id). A broken indptr must not lead us past the
    buffer of `size` ids."""
    start = tl.minimum(tl.maximum(tl.load(indptr_B1 + row).to(tl.int64), 0), size)
    end = tl.minimum(tl.load(indptr_B1 + row + 1).to(tl.int64), size)
    ids = (end - start).to(tl.int32)
    skipped = tl.maximum(seq_len - ids, 0) if CLIPPED else seq_len * 0
    return start, ids, skipped


@triton.jit
def _check_row(
    keys_B, told_row, verdict_V, step_1, site, row, found, bound, req_row, EACH: tl.constexpr, TOLD: tl.constexpr
):
    """Whether a row's length and request are those of the batch. found: keys that the kernel will read."""
    keys = tl.load(keys_B + row // EACH).to(tl.int64)
    is_real = ((told_row >= 0) if TOLD else (req_row > 0)) & (tl.program_id(1) == 0)
    if is_real & (found.to(tl.int64) != keys):
        count_row(verdict_V + _LENGTHS, found, keys, site, row, bound, step_1, found, req_row)
    if is_real & (told_row != req_row):
        count_row(verdict_V + _ROWS, req_row, told_row, site, row, bound, step_1, found, req_row)


@triton.jit
def _extent(
    indptr_B1, row, stride_table, stride_out, columns, seq_len, PAGE: tl.constexpr, WINDOW: tl.constexpr,
    QUERIES: tl.constexpr, FLAT: tl.constexpr, CLIPPED: tl.constexpr,
):  # fmt: skip
    """(where the row starts, where its copy does, its columns, the first live one, the last, keys before column 0, keys
    that the kernel will read)."""
    last = (seq_len - 1) // PAGE
    first = tl.maximum(seq_len - QUERIES - WINDOW, 0) // PAGE if WINDOW >= 0 else 0
    row_at, out_at, skipped, keys = row * stride_table, row * stride_out, 0, seq_len
    if FLAT:
        # A flat row is read whole: it has no entry that the kernel leaves out.
        row_at, columns, skipped = _flat_row(indptr_B1, row, columns, seq_len, CLIPPED)
        out_at, first, last = row_at, 0, columns - 1
        keys = seq_len if CLIPPED else columns
    return row_at, out_at, columns, first, last, skipped, keys


@triton.jit
def _belongs(
    request_row, mapping, handed_out, mapped_pages, page, column, value, known,
    PAGE: tl.constexpr, MAPPED: tl.constexpr, IN_WINDOW: tl.constexpr, REMEMBERED: tl.constexpr,
):  # fmt: skip
    """(id that belongs at each column, `value` where not known; its full page; where that has no SWA page; where
    it has another than was handed out with it; which that was)."""
    slot = tl.load(request_row + page * PAGE, mask=known, other=0)
    full = _page(slot.to(tl.int64), PAGE)
    belongs, own, lost, strange = full, full, column < 0, column < 0
    if MAPPED:
        # Both are asked for before either is looked at, or a row would wait for memory twice.
        belongs = _mapped(mapping, full, mapped_pages, known, PAGE)
        if REMEMBERED:
            inside = known & (full >= 0) & (full < mapped_pages)
            handed = tl.load(handed_out + full * PAGE, mask=inside, other=-1)
            own = _page(handed, PAGE)
            strange = known & (belongs > 0) & (handed != -2) & (belongs != own)
        if IN_WINDOW:
            lost = known & (value == 0) & (belongs == 0) & (full != 0)
            # In a graph the request may have left since the table was made, and given its pages back: they are
            # nobody's.
            known = known & ((belongs != 0) | (full <= 0))
    return tl.where(known, belongs, value), full, belongs, own, lost, strange


@triton.jit(do_not_specialize=["site", "bound", "columns", "request_rows", "request_columns", "mapped_pages"])
def _check(
    table_BP, out_BP, indptr_B1, seq_lens_B, req_rows_B, request_table, mapping, handed_out, keys_B, told_rows_B,
    verdict_V, step_1, site, bound, stride_table, stride_out, stride_request, request_rows, request_columns,
    mapped_pages, columns,
    PAGE: tl.constexpr, WINDOW: tl.constexpr, QUERIES: tl.constexpr, FLAT: tl.constexpr, CLIPPED: tl.constexpr,
    KNOWS_FULL: tl.constexpr, MAPPED: tl.constexpr, IN_WINDOW: tl.constexpr, REMEMBERED: tl.constexpr,
    KEYS: tl.constexpr, TOLD: tl.constexpr, EACH: tl.constexpr, CONTAIN: tl.constexpr, BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    seq_len = tl.load(seq_lens_B + row).to(tl.int32)
    row_at, out_at, columns, first, last, skipped, keys = _extent(
        indptr_B1, row, stride_table, stride_out, columns, seq_len, PAGE, WINDOW, QUERIES, FLAT, CLIPPED
    )
    req_row = tl.load(req_rows_B + row).to(tl.int64)
    told_row = tl.load(told_rows_B + row // EACH).to(tl.int64) if TOLD else req_row
    if KEYS:
        _check_row(keys_B, told_row, verdict_V, step_1, site, row, keys, bound, req_row, EACH, TOLD)
    start = 0 if CONTAIN else (first // BLOCK) * BLOCK
    end = columns if CONTAIN else tl.minimum(last + 1, columns)
    for block in range(start + tl.program_id(1) * BLOCK, end, BLOCK * SPLITS):
        column = block + tl.arange(0, BLOCK)
        in_row = column < columns
        live = in_row & (column >= first) & (column <= last)
        value = tl.load(table_BP + row_at + column, mask=in_row, other=0).to(tl.int64)
        outside = live & ((value < 0) | (value >= bound))
        expected, full, belongs, own, lost, strange = value, value, value, value, column < 0, column < 0
        if KNOWS_FULL:
            page = skipped + column
            # Row 0 of the request table is the padding row of graph batches: nothing belongs there.
            known = live & (req_row > 0) & (req_row < request_rows) & (page < request_columns)
            expected, full, belongs, own, lost, strange = _belongs(
                request_table + req_row * stride_request, mapping, handed_out, mapped_pages, page, column, value, known,
                PAGE, MAPPED, IN_WINDOW, REMEMBERED,
            )  # fmt: skip
        wrong = (live & (value != expected)) if KNOWS_FULL else outside
        if CONTAIN:
            # The whole row, not only what is live: kernels load whole tiles and mask keys afterwards.
            legal = (value >= 0) & (value < bound)
            tl.store(out_BP + out_at + column, tl.where(legal, value, 0), mask=in_row)
        # One look at all of it: on healthy state nothing below runs.
        bad = outside | wrong
        if MAPPED and IN_WINDOW:
            if TOLD:  # not of a request that has left since the batch was made: what it still reads is thrown away
                lost = lost & (told_row >= 0)
            bad = bad | lost
        if MAPPED and REMEMBERED:
            bad = bad | strange
        if tl.sum(bad.to(tl.int32), axis=0) > 0:
            if MAPPED and IN_WINDOW:
                at = verdict_V + _UNMAPPED
                count_wrong(at, lost, column, value, full, site, row, bound, step_1, seq_len, req_row)
            if MAPPED and REMEMBERED:
                at = verdict_V + _REMAPPED
                count_wrong(at, strange, column, belongs, own, site, row, bound, step_1, seq_len, req_row)
            if tl.sum((outside | wrong).to(tl.int32), axis=0) > 0:
                count(verdict_V, outside, wrong, column, value, expected, site, row, bound, step_1, seq_len, req_row)


class InGraph(NamedTuple):
    """What is judged in a graph beside the table's entries.

    in_window: whether each page in the window is mapped. handed_out: int64 [M], the SWA slot handed out with each full
    slot, 0 for none, -2 where nobody wrote it down. Both need the mapping. keys_B: int, the lengths by the batch
    itself, one for each of its requests, which have as many rows each. told_rows_B: int64, the request rows by the
    batch itself, -1 for one that is padding; at least as long as keys_B."""

    in_window: bool = False
    handed_out: torch.Tensor | None = None
    keys_B: torch.Tensor | None = None
    told_rows_B: torch.Tensor | None = None

    def each(self, rows: int) -> int:
        """Rows a request. ValueError where requests would differ in them."""
        if self.keys_B is None:
            return 1
        if not len(self.keys_B) or rows % len(self.keys_B):
            raise ValueError(f"wanted as many rows for each of {len(self.keys_B)} requests, found {rows} rows")
        return rows // len(self.keys_B)


_NOTHING = InGraph()


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
    in_graph: InGraph = _NOTHING,
) -> torch.Tensor:
    """Launch the check of one table. Returns `table_BP`, or with `contain` a copy in which every id outside the pool,
    live or not, is page 0.

    table_BP: int32 [B, P], rows may be strided; or flat, int32 or int64 [N], of which row b has those from indptr_B1[b]
    to indptr_B1[b + 1], a row's last keys where clipped, else all; a flat copy is filled as far. seq_lens_B: int32,
    keys a row with this step's queries. req_rows_B: int64. step_1: int64, one element, on the device. site: names
    layer and backend to the reader. bound: pages of the layer's k_cache. window: keys left of a query, -1 for all.
    queries: of each row. request_table: req_to_token, int32 [rows, tokens]; without it only the bound is checked.
    mapping: full_to_swa_index_mapping, int64 [M], for a layer addressed in SWA pages. ValueError: see InGraph.
    """
    flat, judged = indptr_B1 is not None, in_graph
    rows, columns = table_BP.shape if indptr_B1 is None else (len(indptr_B1) - 1, len(table_BP))
    out_BP = torch.empty_like(table_BP, memory_format=torch.contiguous_format) if contain else table_BP
    optional = (request_table, mapping, judged.handed_out, judged.keys_B, judged.told_rows_B)
    none = verdict.words_V  # a pointer that is never followed
    _check[(rows, splits := _FLAT_SPLITS if flat else 1)](
        *(table_BP, out_BP, none if indptr_B1 is None else indptr_B1, seq_lens_B, req_rows_B),
        *(none if tensor is None else tensor for tensor in optional),
        *(verdict.words_V, step_1, site, bound),
        *((0, 0) if flat else (table_BP.stride(0), out_BP.stride(0))),
        *_sizes(request_table, mapping, page_size),
        columns,
        PAGE=page_size,
        WINDOW=window,
        QUERIES=queries,
        FLAT=flat,
        CLIPPED=clipped,
        KNOWS_FULL=request_table is not None,
        MAPPED=mapping is not None,
        IN_WINDOW=judged.in_window,
        REMEMBERED=judged.handed_out is not None,
        KEYS=judged.keys_B is not None,
        TOLD=judged.told_rows_B is not None,
        EACH=judged.each(rows),
        CONTAIN=contain,
        BLOCK=512 if flat else 128,
        SPLITS=splits,
        num_warps=4 if flat else 1,
    )
    return out_BP


def _sizes(request_table: torch.Tensor | None, mapping: torch.Tensor | None, page_size: int) -> tuple[int, ...]:
    """(stride, rows and columns of the request table, pages of the mapping), 0 for what is not there."""
    mapped = 0 if mapping is None else -(-(len(mapping) - 1) // page_size)
    if request_table is None:
        return 0, 0, 0, mapped
    return request_table.stride(0), request_table.shape[0], -(-request_table.shape[1] // page_size), mapped
