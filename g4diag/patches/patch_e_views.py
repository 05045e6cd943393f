"""Half of patch E: SWA state swapped with the pool in the two frozen-KV views, and nowhere else.

Right when eager; under CUDA graphs still wrong (54 of 72 entries in the scenario), without a word: the table
buffers are sized in the graph runner's constructor, outside both views, where the SWA state is still None. No SWA
buffer exists, so the copy into it is skipped and the captured kernel reads the full-space table. (0.5.14 alone says
so: its table builder asserts that mapping and SWA table come together.)
The form of the cure that suggests itself (fork, 2026-05-23), kept to show why it is not enough. `all` never
takes it.
"""

from __future__ import annotations

from g4diag.patches.backend_rule import CALLED_ONCE, TWO_SIDED
from g4diag.patches.contract import Patch
from g4diag.patches.swa_state import VIEW_ANCHORS, view_forms, view_hooks

PATCH = Patch(
    name="patch-e-views",
    kind="cure",
    why="The draft's SWA state stays behind when its pool is swapped. Cured when eager, not under CUDA graphs.",
    how="Around frozen_kv_target_view and target_kv_pool_view: backend._swa_kv_pool is the target's SWA pool inside.",
    upstream="the fork pyc96/sglang, 2026-05-23; superseded by sgl-project/sglang#27491 (2026-06-08)",
    releases=">0.5.12.post1,<0.5.13rc0",
    anchors=(*VIEW_ANCHORS, CALLED_ONCE),
    upstream_when=TWO_SIDED,
    forms=view_forms(view_hooks),
    remove_when="With patch-e.",
    partial=True,
)
