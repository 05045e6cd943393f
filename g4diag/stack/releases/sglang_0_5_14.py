"""sglang 0.5.14: hooked as 0.5.15, but for a draft of several models. The first release whose frozen-KV draft has a
worker of spec v2 alone, whose pools' writes are handed a KVWriteLoc, and whose eager forward has a runner of its own.
Source: the released wheel, and runs on a CPU.
"""

from __future__ import annotations

from dataclasses import replace

from g4diag.hooks.anchors import Anchor
from g4diag.stack.releases import sglang_0_5_13, sglang_0_5_15

_SRT = "sglang.srt"
_LATER = "replay.layers_extend"

RELEASE = replace(
    sglang_0_5_15.RELEASE,
    name="0.5.14",
    versions=">=0.5.14,<0.5.15",
    known_by=(
        Anchor(f"{_SRT}.managers.schedule_batch", "self.fill_len: int = 0"),
        Anchor(f"{_SRT}.mem_cache.memory_pool", "class KVWriteLoc:"),
        Anchor(f"{_SRT}.speculative.frozen_kv_mtp_worker_v2", "class FrozenKVMTPDraftWorker("),
    ),
    points={name: point for name, point in sglang_0_5_15.RELEASE.points.items() if name != _LATER},
    lacks={**sglang_0_5_15.RELEASE.lacks, _LATER: sglang_0_5_13.RELEASE.lacks[_LATER]},
    drive="g4diag.stack.drive.at_0_5_14",
)
