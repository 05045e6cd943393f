"""sglang 0.5.12.post1, known in part: traps of the scheduler's steps, the allocators and the pools' writes; not driven.

Its allocators are one module, and the SWA one lies beside its pool. The frozen-KV views know of no backend, so what a
view swaps is not seen. A hybrid pool's write translates the slots itself. It is from before the code that #25103 broke,
and trtllm_mha asks the allocator whoever the runner is (the mirror bug). Source: the released wheel, read.
"""

from __future__ import annotations

from dataclasses import replace

from g4diag.hooks.anchors import Anchor
from g4diag.stack.releases import sglang_0_5_13
from g4diag.stack.releases.contract import Point

_SRT = "sglang.srt"
_CACHE = f"{_SRT}.mem_cache"
_MOVED = {
    f"{_CACHE}.allocator.paged.": f"{_CACHE}.allocator.",
    f"{_CACHE}.allocator.token.": f"{_CACHE}.allocator.",
    f"{_CACHE}.allocator.base.": f"{_CACHE}.allocator.",
    f"{_CACHE}.allocator.swa.": f"{_CACHE}.swa_memory_pool.",
}
_LACKS = {
    "draft.step_slots": "each draft worker cuts the slots of its steps itself",
    "scheduler.on_idle": "the scheduler has no hook for idleness",
    "view.frozen_kv_target_view": "the view is not handed the draft's backend",
    "view.target_kv_pool_view": "the view is not handed the draft's backend",
}


def _there(point: Point) -> Point:
    for package, place in _MOVED.items():
        if point.path.startswith(package):
            return replace(point, path=place + point.path.removeprefix(package))
    return point


RELEASE = replace(
    sglang_0_5_13.RELEASE,
    name="0.5.12.post1",
    versions=">=0.5.12,<0.5.13",
    known_by=(
        Anchor(f"{_CACHE}.allocator", "class PagedTokenToKVPoolAllocator("),
        Anchor(f"{_CACHE}.swa_memory_pool", "class SWATokenToKVPoolAllocator("),
        Anchor(f"{_SRT}.speculative.frozen_kv_mtp_worker", "class FrozenKVMTPWorker("),
    ),
    points={name: _there(point) for name, point in sglang_0_5_13.RELEASE.points.items() if name not in _LACKS},
    lacks=_LACKS,
    undriven="forwards go through a ModelWorkerBatch and the batch's own backend, for which no driver is written",
)
