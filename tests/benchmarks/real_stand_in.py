"""Run as the child of `real_models.py` where no GPU is: its phases over an engine that computes nothing.

What it prints is in the words of sglang 0.5.23's scheduler, as far as they are asked for here.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "benchmarks"), str(Path(__file__).resolve().parents[2])]

import real_child  # noqa: E402
import real_plugin  # noqa: E402
import step_clock  # noqa: E402

from g4diag.stack import entry_points  # noqa: E402


class Engine:
    """Tokens in time: a prompt takes 60 ms, 30 with the tile; a step 4 ms, 8 where the batch's graph has the chain."""

    def __init__(self, **arguments: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.running, self.aborted = 0, False
        self.tokenizer_manager = SimpleNamespace(abort_request=self.abort)
        chained = frozenset(int(size) for size in os.environ["REALBENCH_CHAIN"].split(",") if size)
        self.router, self.tile = real_plugin.Router(chained), real_plugin.Tile()
        self.switch = real_plugin.Switch(Path(os.environ["REALBENCH_FOLDER"]), self.router, self.tile)
        self.clock = step_clock.Clock(os.environ["TRAPBENCH_CLOCK"])
        ratio, pool = arguments["swa_full_tokens_ratio"], 100_000
        print("Load weight end. elapsed=1.00 s, type=X, avail mem=86.77 GB, mem usage=48.10 GB.")
        print(
            f"Use sliding window memory pool. full_layer_tokens={pool}, swa_layer_tokens={int(pool * ratio)}",
            flush=True,
        )
        print("ServerArgs(resolved): {'mem_fraction_static': 0.827, 'page_size': 64}", flush=True)
        self.steps = self.loop.create_task(self.step())

    def abort(self, abort_all: bool) -> None:
        self.aborted = abort_all

    def shutdown(self) -> None:
        self.steps.cancel()

    async def step(self) -> None:
        """The scheduler's loop."""
        while True:
            self.switch.after(None)
            chained = self.running in self.router.chained
            await asyncio.sleep(0.008 if chained else 0.004)
            if self.running:
                forward = SimpleNamespace(is_decode=lambda: True)
                self.clock.after(SimpleNamespace(forward_mode=forward, reqs=[0] * self.running))

    async def async_generate(self, input_ids: list[int], sampling_params: dict[str, Any], stream: bool) -> Any:
        return self.tokens(len(input_ids), sampling_params["max_new_tokens"])

    async def tokens(self, prompt: int, new: int) -> AsyncIterator[dict[str, Any]]:
        if self.aborted and not self.running:
            self.aborted = False
        on = self.tile._patch._is_ours is self.tile._is_ours
        if on:
            self.tile._patch.tile_for(1, 8, prompt, 1024, 0)
        if self.router.counting:
            self.router.experts.append((8, 0.25))
        await asyncio.sleep(0.03 if on else 0.06)
        print(
            f"Prefill batch, #new-seq: 1, #new-token: {prompt}, #cached-token: 0, full token usage: 0.10, "
            "swa token usage: 0.20, #running-req: 0, #queue-req: 0, #pending-token: 0, cuda graph: False, "
            "input throughput (token/s): 1.00",
            flush=True,
        )
        self.running += 1
        try:
            for index in range(new):
                if self.aborted:
                    yield {
                        "output_ids": [1],
                        "meta_info": {"completion_tokens": index, "finish_reason": {"type": "abort"}},
                    }
                    return
                yield {"output_ids": [1], "meta_info": {"completion_tokens": index + 1, "finish_reason": None}}
                await asyncio.sleep(0.002)
            print(
                f"Decode batch, #running-req: {self.running}, #full token: 9, full token usage: 0.30, #swa token: 9, "
                "swa token usage: 0.70, cuda graph: True, gen throughput (token/s): 100.00, #queue-req: 2",
                flush=True,
            )
        finally:
            self.running -= 1


if __name__ == "__main__":
    if os.environ.get("STAND_IN_DIES"):
        print("RuntimeError: CUDA out of memory", flush=True)
        sys.exit(1)
    entry_points.engine = Engine  # type: ignore[assignment]
    entry_points.imported = lambda: None
    sys.exit(real_child.main(sys.argv[1]))
