"""FlashAttentionBackend's table of a verified draft tree holds full-space slots, and sliding layers read through it.

PR: sglang #24617 (opened 2026-05-07, merged) for issue #24402, gpt-oss with EAGLE3 and topk above 1 on fa3. For such a
verify the sliding layers have a table of their own, put together from the prefix's slots and the tree's. Both came
from req_to_token as they were; every other SWA table of this backend was translated.
What breaks: a sliding layer indexes its SWA pool by full slots: other requests' K/V, then an illegal memory access.
Put back: inside `_init_sliding_window_attn_spec_metadata` the backend believes it has no SWA pool.
Two traps name it at the kernel's call: `page_table_in_layer_space`, on the host, and `page_table_stays_in_pool`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Patch

_METADATA = (
    "sglang.srt.layers.attention.flashattention_backend.FlashAttentionBackend._init_sliding_window_attn_spec_metadata"
)


def untranslated(original: Callable[..., None], backend: Any, *args: Any, **kwargs: Any) -> None:
    """Put the table together from full-space slots."""
    known, backend.use_sliding_window_kv_pool = backend.use_sliding_window_kv_pool, False
    try:
        original(backend, *args, **kwargs)
    finally:
        backend.use_sliding_window_kv_pool = known


PATCH = Patch(
    name="fa-spec-full-table",
    kind="fault",
    why="Verifying a draft tree on fa3, sliding layers read their SWA pool by full-space slots.",
    how="Around FlashAttentionBackend._init_sliding_window_attn_spec_metadata: no part of its table is translated.",
    upstream="sgl-project/sglang#24617 (opened 2026-05-07, merged)",
    releases=">=0.5.13",
    anchors=(Anchor(_METADATA, "page_table_a = self.token_to_kv_pool.translate_loc_from_full_to_swa("),),
    hooks=lambda: (Hook(_METADATA, "around", untranslated),),
    remove_when="Never: it is an exhibit. Move the anchor when the table's making moves.",
)
