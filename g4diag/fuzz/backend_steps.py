"""One forward's batch, padded or not, and what a kernel should find through the table it is handed for it.

A token's id tells its request and position, and is its K: so what a kernel reads says whose K/V it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from g4diag.fuzz.session import current
from g4diag.model import IntArray
from g4diag.stack.drive import forwards
from g4diag.stack.drive.forwards import Extend
from g4diag.stack.drive.index_kernels import in_torch

_LONGEST = 1024  # positions a request may have; ids stay exact in float32


def token_ids(rid: int, start: int, count: int) -> IntArray:
    """int64[count]: the ids of a request's tokens from position `start`. 0 is padding's."""
    first = rid * _LONGEST + 1 + start
    return np.arange(first, first + count, dtype=np.int64)


@dataclass(frozen=True)
class Step:
    """One forward. phase: as `forwards.mode_of` takes it. Each row has
    `queries` tokens from position `starts`; `lens` is its length as ForwardBatch has it, `keys` as the kernel should
    be told it. ahead: which of the tokens that are drafted in a row, 0 for the first."""

    phase: str
    rids: tuple[int, ...]
    starts: tuple[int, ...]
    queries: tuple[int, ...]
    lens: tuple[int, ...]
    keys: tuple[int, ...]
    ahead: int = 0


def forward_batch(step: Step, rows: Sequence[int], slots: Sequence[Sequence[int]], size: int, width: int) -> Any:
    """A ForwardBatch of `size` rows with `width` tokens each where the phase has as many for all. rows: request rows.
    slots: each row's full slots by position. Rows past the step's are padding, as a graph runner pads: request row 0,
    slot 0, length 1."""
    spans = list(zip(step.rids, step.starts, step.queries, slots, strict=True))
    missing = size - len(step.rids)
    total = sum(step.queries)
    writes = step.phase != "FROZEN_DECODE"
    input_ids_T, slots_T, positions_T = np.zeros((3, size * width if width else total), dtype=np.int64)
    if spans:
        input_ids_T[:total] = np.concatenate([token_ids(*span[:3]) for span in spans])
        positions_T[:total] = [p for _, start, count, _ in spans for p in range(start, start + count)]
    if writes:
        slots_T[:total] = [slot for _, start, count, row in spans for slot in row[start : start + count]]
    mode = forwards.mode_of(step.phase)
    extend = Extend([*step.starts, *[0] * missing], [*step.queries, *[1] * missing], total)
    return forwards.forward_batch(
        mode,
        [*rows, *[0] * missing],
        [*step.lens, *[1] * missing],
        input_ids_T,
        positions_T,
        slots_T if writes else None,
        extend if step.phase in ("EXTEND", "DRAFT_EXTEND") else None,
    )


class Reading:
    """What one step's kernels were handed, and every way in which it was not this step's K/V."""

    def __init__(self, step: Step | None, page_size: int) -> None:
        self.step, self.page_size = step, page_size
        self.wrong: list[str] = []
        self.calls = self.padding = 0

    def kernel(self, arguments: dict[str, Any]) -> None:
        """Judge one call. arguments: those of FlashInfer's kernel, by name."""
        tables, lens = arguments["block_tables"], arguments["seq_lens"]
        self.calls += 1
        table_BP, lens_B = tables.numpy(), lens.numpy()
        key_pages = arguments["kv_cache"][0].numpy()[:, 0, :, 0]
        live = 0 if self.step is None else len(self.step.rids)
        for row in range(live):
            if wrong := self._row(row, table_BP, lens_B, key_pages, arguments["window_left"]):
                self.wrong.append(f"row {row}: {wrong}")
        for row in range(live, len(table_BP)):
            self.padding += self.step is not None
            pages = -(-int(lens_B[row]) // self.page_size)
            if table_BP[row, :pages].any():
                self.wrong.append(f"padding row {row} of {lens_B[row]} keys reads pages {table_BP[row, :pages]}")
        if self.step is not None and arguments.get("cum_seq_lens_q") is not None:
            self._spans(arguments["cum_seq_lens_q"], arguments["cum_seq_lens_kv"])

    def _row(self, row: int, table_BP: IntArray, lens_B: IntArray, key_pages: Any, window: int) -> str | None:
        assert self.step is not None
        rid, keys, queries = self.step.rids[row], self.step.keys[row], self.step.queries[row]
        if lens_B[row] != keys:
            return f"{lens_B[row]} keys, wanted {keys}"
        oldest = max(0, keys - queries - window) if window >= 0 else 0
        first, last = oldest // self.page_size, (keys - 1) // self.page_size
        if last >= table_BP.shape[1]:
            return f"{keys} keys in a table of {table_BP.shape[1]} columns"
        page_P = table_BP[row, first : last + 1]
        if np.count_nonzero(page_P.astype(np.uint64) >= len(key_pages)):
            return f"pages {page_P.min()} to {page_P.max()} of a pool of {len(key_pages)}"
        begins = first * self.page_size
        key_N = key_pages[page_P].reshape(-1)[oldest - begins : keys - begins]
        wrong_N = key_N != token_ids(rid, oldest, keys - oldest)
        if not np.count_nonzero(wrong_N):
            return None
        at = oldest + int(np.flatnonzero(wrong_N)[0])
        page = page_P[at // self.page_size - first]
        return f"position {at} of {keys} reads page {page}, where another token's K/V is"

    def _spans(self, queries: Any, keys: Any) -> None:
        assert self.step is not None
        for name, handed, wanted in (("queries", queries, self.step.queries), ("keys", keys, self.step.keys)):
            found = np.diff(handed.numpy())[: len(wanted)].tolist()
            if found != list(wanted):
                self.wrong.append(f"cumulative {name} {found}, wanted {list(wanted)}")


@contextmanager
def reading_kernels() -> Iterator[None]:
    """In the places of FlashInfer's kernels, one that hands what it is given to the running machine's `kernel`. Kernels
    of allocation, and those that make tables, go the fast way until the machine says otherwise."""
    from g4diag.stack.drive import cpu

    def kernel(query: Any, **arguments: Any) -> Any:
        current().outside(current().subject.kernel)(arguments)
        return query.new_zeros(query.shape)

    with cpu.attention_kernels(kernel, kernel), in_torch():
        yield
