"""The child of `real_models.py`: holds one Engine and goes through the phases of REALBENCH_PHASES, a JSON list.

Each phase is {"kind", "name", "seconds", ...}; what it has not done after `seconds` is aborted; a `cut` event says so.
load: `requests` prompts of `prompt` random tokens, `new` tokens each, at most `concurrency` at once.
switch: what `real_plugin.Switch` knows, `tile` and `census`; waits for the answer and notes it.
prefill: `rounds` times, each of `prompts` under each of `tiles`, alone on the server, one new token; in random order.
steps: `rounds` times, each of `batches` requests at once, of which the step clock has the decode steps; random order.
A `request` event a request: seconds since the job began when it was sent, when its first and last token came.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from g4diag.servers.child import noted

MARK = "REALBENCH PHASE"  # a line of the log, before a phase's own lines


def main(job_file: str) -> int:
    with noted(job_file) as (job, note):
        note("importing")
        from g4diag.stack import entry_points

        entry_points.imported()
        note("starting")
        engine = entry_points.engine(**job["engine"])
        note("ready")
        run = Phases(engine, job, note)
        for phase in json.loads(os.environ["REALBENCH_PHASES"]):
            # The log is shared with the scheduler; the step clock counts from the same zero.
            print(f"{MARK} {phase['name']}", flush=True)
            note("phase", name=phase["name"], ns=time.perf_counter_ns())
            engine.loop.run_until_complete(getattr(run, phase["kind"])(**phase))
            note("phase over", name=phase["name"], ns=time.perf_counter_ns())
        print(MARK, flush=True)
        # What `server_run` reads as a job that served everything.
        note("finished", index=0, tokens=[0], meta={})
        note("info")
        engine.shutdown()
        note("stopped")
    return 0


class Phases:
    """What is sent to one engine. Prompts are the same for the same seed, and no two share a prefix of any length."""

    def __init__(self, engine: Any, job: dict[str, Any], note: Any) -> None:
        self.engine, self.job, self.note = engine, job, note
        self.random, self.switches, self.over = random.Random(job["seed"]), 0, False

    def ids(self, count: int) -> list[int]:
        return [self.random.randrange(8, self.job["vocab"]) for _ in range(count)]

    def now(self) -> float:
        return round(time.time() - self.job["started"], 4)

    async def one(self, name: str, index: int, ids: list[int], new: int, **about: Any) -> None:
        """One request, noted when it is over."""
        sampling = {"temperature": 0.0, "max_new_tokens": new, "ignore_eos": True}
        sent, first, output = self.now(), 0.0, dict[str, Any]()
        async for chunk in await self.engine.async_generate(input_ids=ids, sampling_params=sampling, stream=True):
            output, first = chunk, first or self.now()
        meta = output.get("meta_info", {})
        done = int(meta.get("completion_tokens") or len(output.get("output_ids", ())))
        reason = meta.get("finish_reason") or {}
        whole = done == new and not (isinstance(reason, dict) and reason.get("type") == "abort")
        row = {"phase": name, "index": index, "sent": sent, "first": first, "last": self.now(), "tokens": done}
        self.note("request", **row, whole=whole, prompt=len(ids), **about)

    async def within(self, name: str, seconds: float, requests: Sequence[Any]) -> None:
        """All of them, until `seconds` are over; what is left then is aborted."""
        self.over = False
        tasks = [asyncio.ensure_future(request) for request in requests]
        _, left = await asyncio.wait(tasks, timeout=seconds)
        if left:
            self.note("cut", name=name, left=len(left))
            self.over = True  # those that wait for their turn are not sent any more
            self.engine.tokenizer_manager.abort_request(abort_all=True)
            _, left = await asyncio.wait(left, timeout=10)
            for task in left:
                task.cancel()
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                self.note("failed", name=name, error=f"{type(error).__name__}: {error}"[:300])

    async def load(
        self, name: str, seconds: float, requests: int, prompt: int, new: int, concurrency: int, **_: Any
    ) -> None:
        gate = asyncio.Semaphore(concurrency)
        prompts = [self.ids(prompt) for _ in range(requests)]

        async def gated(index: int, ids: list[int]) -> None:
            async with gate:
                if not self.over:
                    await self.one(name, index, ids, new)

        await self.within(name, seconds, [gated(*row) for row in enumerate(prompts)])

    async def switch(self, name: str, seconds: float, tile: bool = False, census: bool = False, **_: Any) -> None:
        number, self.switches = self.switches, self.switches + 1
        folder = Path(os.environ["REALBENCH_FOLDER"])
        file, ack = folder / "switch.json", folder / f"switch-{number}.ack"
        file.with_suffix(".part").write_text(json.dumps({"number": number, "tile": tile, "census": census}))
        file.with_suffix(".part").rename(file)
        end, wake = time.monotonic() + seconds, time.monotonic() + 1
        while not ack.exists():
            if time.monotonic() > end:
                raise RuntimeError(f"switch {name}: no answer in {seconds} s")
            if time.monotonic() > wake:  # an idle scheduler may sleep
                wake += 1
                await self.one("wake", number, self.ids(4), 1)
            await asyncio.sleep(0.02)
        self.note("switched", name=name, tile=tile, census=census, **json.loads(ack.read_text()))

    async def prefill(
        self, name: str, seconds: float, prompts: Sequence[int], tiles: Sequence[bool], rounds: int, **_: Any
    ) -> None:
        end = time.monotonic() + seconds
        for number in range(rounds):
            todo = [(tile, prompt) for tile in tiles for prompt in prompts]
            self.random.shuffle(todo)
            for tile, prompt in todo:
                if time.monotonic() > end:
                    self.note("cut", name=name, left=rounds - number)
                    return
                await self.switch(name, 10.0, tile=tile)
                await self.one(name, number, self.ids(prompt), 1, tile=tile)

    async def steps(
        self, name: str, seconds: float, batches: Sequence[int], prompt: int, new: int, rounds: int, **_: Any
    ) -> None:
        end = time.monotonic() + seconds
        for number in range(rounds):
            for batch in self.random.sample(list(batches), len(batches)):
                if (left := end - time.monotonic()) < 1:
                    self.note("cut", name=name, left=rounds - number)
                    return
                prompts = [self.ids(prompt) for _ in range(batch)]
                about = {"batch": batch, "round": number}
                await self.within(
                    name, left, [self.one(name, index, ids, new, **about) for index, ids in enumerate(prompts)]
                )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
