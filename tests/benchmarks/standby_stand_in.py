"""Run as the child of `trap_rivals.py` or `trap_blocks.py` where no GPU is: `server_work.py` over an engine that
computes nothing, in which nothing is armed either: blocks are said to be of traps that saw each step.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "benchmarks"), str(Path(__file__).resolve().parents[2])]

import real_plugin  # noqa: E402
import server_work  # noqa: E402
import step_clock  # noqa: E402

from g4diag.stack import entry_points  # noqa: E402


class Engine:
    """A step takes 2 ms, 6 with CUDA_LAUNCH_BLOCKING. The canary's server does not start but with STAND_IN_CANARY.
    STAND_IN_EXPERTS: how many a layer's call uses, where they are counted."""

    def __init__(self, **arguments: Any) -> None:
        if "kv_canary" in arguments:
            if not os.environ.get("STAND_IN_CANARY"):
                raise ValueError("kv-canary: not here")
            found = 0 if os.environ.get("SGLANG_GEMMA_OUT_OF_PLACE_POSITION_MUTATION") == "1" else 1000
            print("install_canary: on", flush=True)
            for step in (1, 2):
                counts = f"protected_tokens={2000 * step} sweep_passes=0 violations={found * step}"
                print(f"[canary] step={100 * step} {counts} launch_tags_active=4/8", flush=True)
        drafted = any(name.startswith("speculative") for name in arguments)
        print(f"drafted: {drafted}", flush=True)
        if os.environ.get("TRAPBENCH_FORK_CHECK") and not os.environ.get("STAND_IN_SILENT"):
            print("g4bench: the fork's check runs", flush=True)
            print("g4bench: the fork's check would have stopped 50 of 200 looks", flush=True)
        self.loop = asyncio.new_event_loop()
        self.clock, self.running = step_clock.Clock(os.environ["TRAPBENCH_CLOCK"]), 0
        self.step = 0.006 if os.environ.get("CUDA_LAUNCH_BLOCKING") else 0.002
        router, tile = real_plugin.Router(frozenset()), SimpleNamespace(put=lambda on: None, launches=0)
        self.router = router
        self.switch = real_plugin.Switch(Path(os.environ.get("REALBENCH_FOLDER", "")), router, tile)  # type: ignore[arg-type]
        if os.environ.get("STAND_IN_SANITIZED"):
            time.sleep(float(os.environ["STAND_IN_SANITIZED"]))

    def shutdown(self) -> None:
        """Nothing to end."""

    async def async_generate(self, input_ids: list[int], sampling_params: dict[str, Any]) -> dict[str, Any]:
        self.running += 1
        first = self.running == 1
        if self.router.counting and (experts := os.environ.get("STAND_IN_EXPERTS")):
            self.router.experts.append((int(experts), 0.02))
        await asyncio.sleep(0.06)  # past the time between two looks of the switch
        self.switch.after(None)
        for _ in range(sampling_params["max_new_tokens"]):
            if first:
                forward = SimpleNamespace(is_decode=lambda: True)
                self.clock.after(SimpleNamespace(forward_mode=forward, reqs=[0] * self.running))
            await asyncio.sleep(self.step)
        self.running -= 1
        return {"output_ids": [1] * sampling_params["max_new_tokens"]}


def arm_nothing() -> None:
    """Blocks change by name alone."""
    change = step_clock.Blocks._change

    def changed(blocks: Any, row: int) -> None:
        blocks._kept = [None]
        change(blocks, row)
        blocks._armed.append(SimpleNamespace(live=SimpleNamespace(step=10**6)))

    def rearm(environment: dict[str, str]) -> Any:
        traps = [] if environment["G4DIAG_TRAPS"] == "none" else ["a trap"]
        return SimpleNamespace(manifest={"traps": traps}, state="armed")

    step_clock.Blocks._change, step_clock.rearm = changed, rearm  # type: ignore[method-assign]


if __name__ == "__main__":
    arm_nothing()
    entry_points.engine = Engine  # type: ignore[assignment]
    sys.exit(server_work.main(sys.argv[1]))
