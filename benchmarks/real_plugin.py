"""The `g4real` sglang plugin: dummy weights that a mixture of experts can be timed with, and what is switched while a
server runs.

REALBENCH_FOLDER: the folder of `switch.json`: {"number", "tile", "census"}. A new number is answered in
`switch-N.ack`, {"tiles", "experts", "sums"}: launches so far that were given the patch's tile; of the census since
the last answer a row a layer's call, [experts used, largest share of one]; sums under capture that custom all-reduce
took and that it left to NCCL.
tile: hopper-extend-tile, armed at the start since the backend keeps the functions it finds then, is in force. census:
eager routings of 1024 tokens or more are counted.
REALBENCH_CHAIN: numbers of tokens, comma between, that are routed by the chain of torch calls in place of the fused
kernel: those batch sizes' graphs hold it.
REALBENCH_NCCL: numbers of tokens, comma between, whose sums over GPUs custom all-reduce leaves to NCCL, likewise.

Why the weights: sglang fills every parameter with 1e-3 noise, norms and Gemma-4's layer scalar too (-0.00094 in all
layers), so what flows shrinks with every layer, and routers that see nothing but zeros send every token to the
same experts.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

SCHEDULER = "sglang.srt.managers.scheduler.Scheduler"
DUMMY = "sglang.srt.model_loader.weight_utils.initialize_dummy_weights"
ROUTER = "sglang.kernels.ops.moe.gemma4_routing.gemma4_fused_routing"
SUM = "sglang.srt.distributed.device_communicators.custom_all_reduce_v2.CustomAllReduceV2.should_custom_ar"
ONES = ("norm.weight", "layer_scalar", "router.scale", "per_expert_scale")


def healthy(result: None, model: Any, *args: Any, **kwargs: Any) -> None:
    """After the dummy weights: scales are one, as a fresh model has them."""
    changed = 0
    for name, row in model.state_dict().items():
        if ("norm" in name and name.endswith("weight")) or name.endswith(ONES):
            row.fill_(1)
            changed += 1
    if not changed:
        raise RuntimeError("g4real: wanted norms and layer scalars to set to one, found none")


def chain(logits: Any, scale: Any, topk: int) -> tuple[Any, Any]:
    """As the model did it before the fused kernel: (weights fp32, ids int32), both [tokens, topk]."""
    import torch

    top, ids = torch.topk(logits.float(), k=topk, dim=-1)
    return torch.softmax(top, dim=-1) * scale[ids].float(), ids.to(torch.int32)


class Router:
    """Around the fused routing. chained: numbers of tokens that the chain routes."""

    LEAST = 1024

    def __init__(self, chained: frozenset[int]) -> None:
        self.chained, self.counting, self.experts = chained, False, list[tuple[int, float]]()

    def around(self, original: Any, gating_output: Any, per_expert_scale: Any, topk: int) -> tuple[Any, Any]:
        tokens = gating_output.shape[0]
        route = chain if tokens in self.chained else original
        weights, ids = route(gating_output, per_expert_scale, topk)
        if self.counting and tokens >= self.LEAST and not capturing():
            counts = ids.flatten().long().bincount(minlength=gating_output.shape[1])
            self.experts.append((int((counts > 0).sum()), float(counts.max() / counts.sum())))
        return weights, ids


def capturing() -> bool:
    """Whether a CUDA graph is being captured: nothing may wait for the device then."""
    import torch

    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


class Sums:
    """Around custom all-reduce's choice. left: numbers of tokens that NCCL sums."""

    def __init__(self, left: frozenset[int]) -> None:
        self.left, self.seen = left, [0, 0]

    def around(self, original: Any, communicator: Any, inp: Any) -> bool:
        taken = bool(original(communicator, inp))
        if not taken:
            return False
        is_left = inp.shape[0] in self.left
        self.seen[is_left] += capturing()
        return not is_left


class Tile:
    """hopper-extend-tile in or out of force; counts the launches that got a tile of it."""

    def __init__(self) -> None:
        from g4diag.patches import hopper_extend_tile as patch

        self._patch, self._is_ours, self._tile_for, self.launches = patch, patch._is_ours, patch.tile_for, 0
        patch.tile_for = self._counted  # type: ignore[assignment]
        self.put(False)

    def _counted(self, *args: Any) -> Any:
        self.launches += 1
        return self._tile_for(*args)

    def put(self, on: bool) -> None:
        self._patch._is_ours = self._is_ours if on else lambda *row: False


def is_first_rank() -> bool:
    """Of this server's processes, as far as they know each other."""
    from torch import distributed

    return not (distributed.is_initialized() and distributed.get_rank())


class Switch:
    """What `switch.json` says, looked for some twenty times a second, between a scheduler's steps."""

    def __init__(self, folder: Path, router: Router, tile: Tile, sums: Sums | None = None) -> None:
        self._file, self._router, self._tile = folder / "switch.json", router, tile
        self._sums = sums or Sums(frozenset())
        self._number, self._next = -1, 0.0

    def after(self, chosen: Any, *args: Any, **kwargs: Any) -> None:
        """Hook after `get_next_batch_to_run`. Never raises, never changes the result."""
        if (now := time.monotonic()) < self._next:
            return
        self._next = now + 0.05
        try:
            wanted = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return
        if wanted["number"] == self._number:
            return
        self._number = wanted["number"]
        self._tile.put(bool(wanted["tile"]))
        self._router.counting = bool(wanted["census"])
        said = {"tiles": self._tile.launches, "experts": self._router.experts, "sums": self._sums.seen}
        self._router.experts = []
        if not is_first_rank():
            return
        ack = self._file.with_name(f"switch-{self._number}.ack")
        ack.with_suffix(".part").write_text(json.dumps(said))
        ack.with_suffix(".part").rename(ack)


def register() -> None:
    """Entry point."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    folder = os.environ.get("REALBENCH_FOLDER")
    if not folder:
        return
    router, sums = Router(_sizes("REALBENCH_CHAIN")), Sums(_sizes("REALBENCH_NCCL"))
    HookRegistry.register(DUMMY, healthy, HookType.AFTER)
    HookRegistry.register(ROUTER, router.around, HookType.AROUND)
    HookRegistry.register(
        f"{SCHEDULER}.get_next_batch_to_run", Switch(Path(folder), router, Tile(), sums).after, HookType.AFTER
    )
    if sums.left:
        HookRegistry.register(SUM, sums.around, HookType.AROUND)


def _sizes(name: str) -> frozenset[int]:
    return frozenset(int(size) for size in os.environ.get(name, "").split(",") if size)
