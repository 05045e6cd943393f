"""Where the pages stand that are in the window and have no SWA page: at the end of a cached prefix, or elsewhere."""

from __future__ import annotations

import numpy as np

from g4diag.analyzers.shapes.contract import Shape
from g4diag.model import AttentionRead, Incident, LayerKind

_PREFIX, _EDGE, _OTHER = "end of the prefix", "edge of the window", "elsewhere"


def told(read: AttentionRead, incident: Incident) -> str:
    """Of all rows: the page of the last key before this step's queries; else the first live page alone."""
    expected_BP = read.expected_BP()
    if expected_BP is None or read.full_page_table_BP is None or read.layer_kind is not LayerKind.SWA:
        return ""
    live_BP = read.live_BP() & (read.full_page_table_BP != 0)
    dummy_BP = live_BP & (expected_BP == 0) & (read.page_table_BP == 0)
    if not dummy_BP.any():
        return ""
    row_N, column_N = np.nonzero(dummy_BP)
    last_B = (read.seq_lens_B.astype(np.int64) - read.q_len - 1) // read.pool.page_size - read.starts_B()
    if read.phase == "extend" and (column_N == last_B[row_N]).all():
        return _PREFIX
    return _EDGE if (column_N == live_BP.argmax(axis=1)[row_N]).all() else _OTHER


SHAPE = Shape(
    "unmapped",
    {
        _PREFIX: "the page of the last cached key before the new tokens, and no other",
        _EDGE: "the oldest page of the window, and no other",
        _OTHER: "pages in the middle of the window, or several",
    },
    AttentionRead,
    told,
)
