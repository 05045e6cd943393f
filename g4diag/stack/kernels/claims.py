"""What our kernels claim, and what one found of a claim, in plain Python: read where nothing of a GPU is imported."""

from __future__ import annotations

from dataclasses import dataclass

# Words of a claim, int64. OUTSIDE and WRONG grow; the rest belong to the first bad entry, whose writer set CLAIMED.
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
# What is claimed: a table's entries are inside the pool and the request's; what they stand for has an SWA page; it is
# the page handed out with it; lengths and request rows are the batch's; K/V is written to the batch's slots; those are
# the slots handed out. A kernel adds the claim times the words to where the block is.
TABLE, UNMAPPED, REMAPPED, LENGTHS, ROWS, SLOTS, SLOTS_REMAPPED = CLAIMS = tuple(range(7))
NOT_KNOWN = -1


@dataclass(frozen=True)
class Verdict:
    """What the device found of one claim since `clear`. outside, wrong: entries counted, every step again. The rest
    describe the first bad entry; expected is what belongs there, in the layer's own space. For what is wrong of a whole
    row column is -1; of a write row is -1, column the token."""

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

    @property
    def total(self) -> int:
        """What was counted: it grows where the device finds more."""
        return self.outside + self.wrong
