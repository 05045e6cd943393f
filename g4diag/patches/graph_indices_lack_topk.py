"""The index buffer of a draft's CUDA graphs has room for one branch a request, where there are topk.

Thread: sglang #27338, not seen; #27460 (2026-06-06, merged) mirrors it for MLA and was read in a stored copy. A draft
that drafts a tree keeps, for every step, the slots of topk branches a request; eagerly the buffer is sized for that,
for graphs the factor was left out.
What breaks: the kernel that fills a row writes past it, into the next step's, or into whatever lies after the buffer.
Put back: while `FlashInferMultiStepDraftBackend.init_cuda_graph_state` sizes the buffer, topk is 1. Upstream's own
SGLANG_DEBUG_REVERT_PR=27338 does not work on 0.5.13: the line it looks for has become a call, and it raises.
Named by upstream itself: 0.5.13 asserts the width before the kernel (`assert_buffer_fits`), with the numbers. No trap
of ours looks here, and none needs to: trtllm_mha has no such buffer, and drafts with topk 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Patch

_BACKEND = "sglang.srt.layers.attention.flashinfer_backend.FlashInferMultiStepDraftBackend"


def for_one_branch(original: Callable[..., None], backend: Any, *args: Any, **kwargs: Any) -> None:
    """Size the graph buffers as if every request had one branch."""
    topk, backend.topk = backend.topk, 1
    try:
        original(backend, *args, **kwargs)
    finally:
        backend.topk = topk


PATCH = Patch(
    name="graph-indices-lack-topk",
    kind="fault",
    why="With topk above 1 a draft's graph index buffer is too narrow, and filling it writes past the row.",
    how="Around FlashInferMultiStepDraftBackend.init_cuda_graph_state: topk is 1 inside.",
    upstream="sgl-project/sglang#27338 (merged by 2026-06-06)",
    releases=">=0.5.13",
    anchors=(
        Anchor(f"{_BACKEND}.init_cuda_graph_state", "max_bs, self.topk, self.max_context_len"),
        Anchor(f"{_BACKEND}.common_template", "assert_buffer_fits("),
    ),
    hooks=lambda: (Hook(f"{_BACKEND}.init_cuda_graph_state", "around", for_one_branch),),
    remove_when="Never: it is an exhibit. Move the anchors when the buffer moves.",
)
