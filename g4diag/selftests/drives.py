"""What selftests drive: a small allocator of sglang's, and a frozen draft over a small server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive.swa_pool import int64

PAGE = 4


def paged(pages: int = 8) -> Any:
    """A PagedTokenToKVPoolAllocator that stands alone, with pages of 4 slots."""
    import torch
    from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator

    return PagedTokenToKVPoolAllocator(pages * PAGE, PAGE, torch.float32, "cpu", None, False)


def extend(made: Any, tokens: int, have: int = 0, last: int = -1) -> Any:
    """A request's next slots: `tokens` more than the `have` it has, the last of which is `last`."""
    prefix, lens = int64([have]), int64([have + tokens])
    return made.alloc_extend(prefix, prefix, lens, lens, int64([last]), tokens)


def frozen_draft(*, apart: int = 0) -> Any:
    """A FrozenDraft over a server with two requests in it. apart: SWA pages that are taken first, so that full page
    n maps to SWA page n + apart."""
    from g4diag.stack.drive.frozen_draft import FrozenDraft
    from g4diag.stack.drive.serving import Geometry, Serving

    serving = Serving(Geometry(requests=2), seed=0)
    serving.allocator.swa_attn_allocator.alloc(apart * serving.geometry.page_size)
    draft = FrozenDraft(serving)
    for rid, ids in serving.prompts():
        serving.admit(rid, ids)
    return draft


def target_view(draft: Any) -> Any:
    """The view that frozen_kv_target_view opens for this draft."""
    from sglang.srt.model_executor.forward_batch_info import ForwardMode
    from sglang.srt.speculative.frozen_kv_mtp_utils import frozen_kv_target_view

    batch = SimpleNamespace(spec_info=None, forward_mode=ForwardMode.DECODE)
    return frozen_kv_target_view(batch, draft.worker.kv_context, draft.worker.draft_attn_backend)


def change_metadata(draft: Any, change: Any) -> None:
    """Let `change` at the metadata of each eager draft step, before any layer looks at it."""
    backend = draft.backend
    honest = backend.init_forward_metadata

    def changed(forward_batch: Any) -> None:
        honest(forward_batch)
        change(backend.forward_metadata)

    backend.init_forward_metadata = changed
