"""What a table that is too small lacks: room for this step's new tokens, more columns than that, or rows."""

from __future__ import annotations

import numpy as np

from g4diag.analyzers.shapes.contract import Shape
from g4diag.model import AttentionRead, Incident

_NEW, _MORE, _ROWS = "new tokens", "more columns", "rows"


def told(read: AttentionRead, incident: Incident) -> str:
    """By the columns that the keys before this step's queries need."""
    rows, columns = read.page_table_BP.shape
    if read.batch_rows is not None and read.batch_rows > rows:
        return _ROWS
    keys_B = read.seq_lens_B.astype(np.int64)
    needed_B = -(-keys_B // read.pool.page_size) - read.starts_B()
    short_B = needed_B > columns
    if not short_B.any():
        return ""
    before_B = -(-(keys_B - read.q_len) // read.pool.page_size) - read.starts_B()
    return _NEW if read.q_len > 1 and (before_B[short_B] <= columns).all() else _MORE


SHAPE = Shape(
    "width",
    {
        _NEW: "it is wide enough for the keys before this step, and not for the draft tokens of it",
        _MORE: "it is too narrow for the keys before this step too",
        _ROWS: "it has fewer rows than the batch",
    },
    AttentionRead,
    told,
)
