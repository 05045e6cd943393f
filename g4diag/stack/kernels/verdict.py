"""What a kernel of ours found, in memory that the host reads without a copy, also after the context is dead.

One block of words a claim, so that the first bad entry of one does not hide that of another. Words are touched only
where something is wrong.

Legend: V verdict words of all claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter

import torch
import triton
import triton.language as tl

from g4diag.stack.kernels.claims import CLAIMED, CLAIMS, NOT_KNOWN, OUTSIDE, SITE, TABLE, WORDS, WRONG, Verdict

_CLAIMED_OF = itemgetter(*(claim * len(WORDS) + CLAIMED for claim in CLAIMS))


@triton.jit
def tell(block_V, site, row, at, value, expected, bound, step, seq_len, req_row):
    """Write the first bad entry of a claim, if nobody has yet."""
    if tl.atomic_cas(block_V, tl.full((), 0, tl.int64), tl.full((), 1, tl.int64), scope="sys") == 0:
        tl.store(block_V + 3, site.to(tl.int64))
        tl.store(block_V + 4, row.to(tl.int64))
        tl.store(block_V + 5, at.to(tl.int64))
        tl.store(block_V + 6, value.to(tl.int64))
        tl.store(block_V + 7, expected.to(tl.int64))
        tl.store(block_V + 8, bound.to(tl.int64))
        tl.store(block_V + 9, step)
        tl.store(block_V + 10, seq_len.to(tl.int64))
        tl.store(block_V + 11, req_row.to(tl.int64))


@triton.jit
def _name(block_V, named, column, value, expected, site, row, bound, step_1, seq_len, req_row):
    at = tl.min(tl.where(named, column, 2147483647), axis=0)
    its_value = tl.sum(tl.where(column == at, value, 0), axis=0)
    belongs = tl.sum(tl.where(column == at, expected, 0), axis=0)
    tell(block_V, site, row, at, its_value, belongs, bound, tl.load(step_1).to(tl.int64), seq_len, req_row)


@triton.jit
def count(block_V, outside, wrong, column, value, expected, site, row, bound, step_1, seq_len, req_row):
    """Add what one block of columns found. An entry outside the pool is the louder fact, so it is the one to name if
    there is."""
    tl.atomic_add(block_V + 1, tl.sum(outside.to(tl.int64), axis=0), scope="sys")
    tl.atomic_add(block_V + 2, tl.sum(wrong.to(tl.int64), axis=0), scope="sys")
    named = outside if tl.sum(outside.to(tl.int32), axis=0) > 0 else wrong
    _name(block_V, named, column, value, expected, site, row, bound, step_1, seq_len, req_row)


@triton.jit
def count_wrong(block_V, wrong, column, value, expected, site, row, bound, step_1, seq_len, req_row):
    """The same where nothing can be outside, and perhaps nothing is wrong."""
    if tl.sum(wrong.to(tl.int32), axis=0) > 0:
        tl.atomic_add(block_V + 2, tl.sum(wrong.to(tl.int64), axis=0), scope="sys")
        _name(block_V, wrong, column, value, expected, site, row, bound, step_1, seq_len, req_row)


@triton.jit
def count_row(block_V, value, expected, site, row, bound, step_1, seq_len, req_row):
    """Add a row that is wrong as a whole."""
    tl.atomic_add(block_V + 2, tl.full((), 1, tl.int64), scope="sys")
    none = tl.full((), -1, tl.int64)
    tell(block_V, site, row, none, value, expected, bound, tl.load(step_1).to(tl.int64), seq_len, req_row)


class VerdictBox:
    """The verdict's memory: pinned where there is CUDA, so that reading it is a host load and outlives the context."""

    def __init__(self) -> None:
        self.words_V = torch.zeros(len(CLAIMS) * len(WORDS), dtype=torch.int64, pin_memory=torch.cuda.is_available())
        self._host_V = self.words_V.numpy()  # taken now: after a dead context even a pinned tensor's methods may fail
        # The same words: one of them is read in a fraction of numpy's time.
        self._host_words = memoryview(self._host_V)
        self.clear()

    def read(self, claim: int = TABLE) -> Verdict | None:
        """The verdict so far, None while nothing was found. No synchronisation: a bad entry shows once its kernel
        has run, at the latest at the next point where the server itself waits for the device."""
        first = claim * len(WORDS)
        if not self._host_V[first]:
            return None
        words = self._host_V[first : first + len(WORDS)].tolist()
        if words[SITE] < 0:  # claimed, and still being written
            return None
        return Verdict(words[OUTSIDE], words[WRONG], *words[SITE:])

    def is_silent(self) -> bool:
        """Whether nothing was found of any claim: nearly always, so it is asked before anything else is."""
        return not any(_CLAIMED_OF(self._host_words))

    def found(self) -> Iterator[tuple[int, Verdict]]:
        """Every claim that something was found of."""
        for claim in CLAIMS:
            if (verdict := self.read(claim)) is not None:
                yield claim, verdict

    def clear(self) -> None:
        """Forget. Call only where the device is known to be idle."""
        blocks = self._host_V.reshape(len(CLAIMS), len(WORDS))
        blocks[:] = NOT_KNOWN
        blocks[:, [CLAIMED, OUTSIDE, WRONG]] = 0
