"""Tiles to try, by kind of shape: at most 24 each, so that a sweep fits a short lease."""

from __future__ import annotations

from extend_shapes import Shape

Config = tuple[int, int, int, int]  # BLOCK_M, BLOCK_N, num_warps, num_stages
# Grids without what spills by the kilobyte on sm_90, as ptxas says (64 rows need 8 warps; 128 rows spill with any).
FEW_ROWS: tuple[Config, ...] = (
    *((16, 32, w, s) for w, s in ((2, 2), (2, 3), (4, 2), (4, 3), (4, 4), (8, 3))),
    *((16, 64, w, s) for w, s in ((2, 2), (4, 1), (4, 2), (4, 3), (8, 2), (8, 3))),
    *((16, 128, w, s) for w, s in ((4, 1), (8, 1), (8, 2))),
    *((32, n, w, s) for n, w, s in ((32, 4, 2), (32, 4, 3), (32, 8, 2), (64, 4, 2), (64, 4, 3), (64, 8, 2))),
)
MANY_ROWS: tuple[Config, ...] = (
    *((16, 64, 4, s) for s in (2, 3)),
    *((32, 32, w, s) for w, s in ((4, 2), (4, 3), (8, 2))),
    *((32, 64, w, s) for w, s in ((4, 1), (4, 2), (4, 3), (8, 1), (8, 2), (8, 3))),
    *((64, 32, 8, s) for s in (1, 2, 3)),
    *((64, 64, w, s) for w, s in ((8, 1), (8, 2), (8, 3), (4, 2))),
    *((128, n, 8, 2) for n in (32, 64)),
    (32, 128, 8, 2),
    (64, 128, 8, 1),
)
# The rule's own tiles, 0.5.13's, and (16,64) w4 s2: enough to see whether a border of the rule is in the right place.
RULE_FEW: tuple[Config, ...] = ((16, 64, 4, 3), (16, 64, 8, 3), (16, 128, 4, 1), (16, 64, 4, 2), (64, 64, 8, 1))
RULE_MANY: tuple[Config, ...] = (
    *((32, 32, 4, s) for s in (2, 3)),
    (32, 64, 4, 2),
    *((64, 64, 8, s) for s in (1, 2)),
)


def grid(shape: Shape, borders: bool = False) -> tuple[Config, ...]:
    """What to try on this shape; borders: only what the rule might have chosen."""
    if borders:
        return RULE_FEW if shape.extend <= 16 else RULE_MANY
    return FEW_ROWS if shape.extend <= 16 else MANY_ROWS
