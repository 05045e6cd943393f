"""The treatment that hid the crash: page ids clamped into the pool just before the kernel.

A fault, not a cure: the access is legal afterwards and the K/V is still somebody else's, with relative errors of
1.3 - 1.8 on a warm pool and accept length near the floor. With a cold pool it looks like an error of exactly 1.0,
because the last page still holds zeros. It does nothing at all for wrong pages that are in range.
The fork pyc96/sglang shipped it on 2026-05-23 and reverted it the same day for "patch E". Kept here to be measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.backend_rule import BACKEND
from g4diag.patches.contract import Patch

_TABLE = f"{BACKEND}._get_layer_page_table"


def clamped(original: Callable[..., Any], backend: Any, layer: Any, forward_batch: Any) -> Any:
    """int32[B, P]: a copy of the layer's table with ids in 0 .. pages-1 of the layer's own k_cache.

    A copy, because the table is the backend's own state, under graphs a static buffer that replay refills: the
    clamp is then captured with the kernel and runs again on every replay.
    """
    page_table_BP = original(backend, layer, forward_batch)
    key_slots = backend.token_to_kv_pool.get_key_buffer(layer.layer_id).shape[0]
    return page_table_BP.clamp(0, key_slots // backend.page_size - 1)


PATCH = Patch(
    name="clamp",
    kind="fault",
    why="Page ids past the SWA pool no longer crash: they read the pool's last page instead, silently.",
    how="Around TRTLLMHAAttnBackend._get_layer_page_table: the returned table clamped to the layer's k_cache pages.",
    upstream="none; the fork pyc96/sglang, committed and reverted on 2026-05-23",
    releases=">=0.5.13",
    anchors=(
        Anchor(_TABLE, "forward_metadata.page_table"),
        Anchor(f"{BACKEND}.forward_decode", "self._get_layer_page_table(layer, forward_batch)"),
        Anchor(f"{BACKEND}.forward_extend", "self._get_layer_page_table(layer, forward_batch)"),
    ),
    hooks=lambda: (Hook(_TABLE, "around", clamped),),
    remove_when="Never: it shows what hiding a crash costs.",
)
