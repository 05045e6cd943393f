"""The child of `soak.py` and `trap_overhead.py`: holds one Engine and does what TRAPBENCH_WORK says.

standby: waits for `go-N.json` files in the job's folder, sends each one's batch, notes that it was served; `leave`
ends it. soak: mixed traffic for TRAPBENCH_SECONDS. Its rows are those of `server_child`, so `server_run` reads them:
one `finished` row of one token stands for the whole work. TRAPBENCH_SANITIZER: the compute-sanitizer to run it under.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from g4diag.servers.child import noted

CONTEXT, VOCAB = 7900, 2048


def ids(generator: random.Random, count: int) -> list[int]:
    """Random token ids without the special ones at both ends."""
    return [generator.randrange(8, VOCAB - 16) for _ in range(count)]


def main(job_file: str) -> int:
    if tool := os.environ.pop("TRAPBENCH_SANITIZER", ""):
        checked = [tool, "--tool", "memcheck", "--target-processes", "all", "--print-limit", "20"]
        os.execvp(tool, [*checked, sys.executable, "-P", __file__, job_file])
    with noted(job_file) as (job, note):
        note("importing")
        from g4diag.stack import entry_points

        note("starting")
        engine = entry_points.engine(**job["engine"])
        work = soak if os.environ["TRAPBENCH_WORK"] == "soak" else standby
        work(engine, job, note)
        note("finished", index=0, tokens=[0], meta={})
        note("info")
        engine.shutdown()
        note("stopped")
    return 0


def send(engine: Any, rows: list[list[int]], new_tokens: int) -> tuple[float, int]:
    """All at once, greedy; (seconds, tokens that came back)."""
    sampling = {"temperature": 0.0, "max_new_tokens": new_tokens, "ignore_eos": True}

    async def everything() -> list[Any]:
        return await asyncio.gather(*(engine.async_generate(input_ids=row, sampling_params=sampling) for row in rows))

    start = time.perf_counter()
    outputs = engine.loop.run_until_complete(everything())
    return time.perf_counter() - start, sum(len(output["output_ids"]) for output in outputs)


def standby(engine: Any, job: dict[str, Any], note: Any) -> None:
    """Serve batches when told to."""
    folder = Path(job["events"]).parent
    # Compiles what a batch needs. Prompts of the real length, or the first timed batch would compile.
    generator = random.Random(999)
    send(engine, [ids(generator, job["prompt_tokens"]) for _ in range(3)], 8)
    note("ready")
    number = 0
    while not (folder / "leave").exists():
        order_file = folder / f"go-{number}.json"
        if not order_file.exists():
            time.sleep(0.1)
            continue
        order = json.loads(order_file.read_text(encoding="utf-8"))
        generator = random.Random(order["seed"])
        rows = [ids(generator, order["prompt_tokens"]) for _ in range(order["requests"])]
        seconds, tokens = send(engine, rows, order["new_tokens"])
        note("measured", number=number, seconds=round(seconds, 4), tokens=tokens)
        number += 1


def soak(engine: Any, job: dict[str, Any], note: Any) -> None:
    """Mixed traffic; raises if the server does not answer at the end."""
    engine.loop.run_until_complete(_Soak(engine, job["seed"], note).run(float(os.environ["TRAPBENCH_SECONDS"])))


class _Soak:
    """Arrivals at random times, bursts, shared prefixes, long and short, aborts; the same for the same seed."""

    IN_FLIGHT = 120
    STOPS = 12  # token ids that end a request which may stop by itself: so many of those that others were answered with

    def __init__(self, engine: Any, seed: int, note: Any) -> None:
        self.engine, self.note, self.random = engine, note, random.Random(seed)
        self.count: Counter[str] = Counter()
        self.prefixes = [ids(self.random, self.random.randrange(200, 2600)) for _ in range(8)]
        self.errors: list[str] = []
        self.said: list[int] = []  # tokens of answers, the latest
        self.cached = 0

    async def run(self, seconds: float) -> None:
        canary = ids(random.Random(7), 300)
        first = await self.canary(canary)
        self.note("ready")
        start, said, burst = time.monotonic(), 0.0, 10.0
        running: set[asyncio.Task[None]] = set()
        while (now := time.monotonic() - start) < seconds:
            if now > burst:
                # Long answers at once: admitted by their prompts, they outgrow the pool and some are retracted.
                burst = now + self.random.uniform(15, 30)
                self.count["bursts"] += 1
                wanted = [self.one(self.random.randrange(900, 1800), self.random.choice((500, 800))) for _ in range(40)]
            else:
                wanted = [self.one(*self.shape()) for _ in range(self.random.choice((1, 1, 1, 2, 5)))]
            for request in wanted:
                if len(running) < self.IN_FLIGHT:
                    task = asyncio.ensure_future(request)
                    running.add(task)
                    task.add_done_callback(running.discard)
                else:
                    request.close()
                    self.count["held back"] += 1
            if now - said > 5:
                said = now
                self.tell(now, len(running))
            await asyncio.sleep(min(2.0, self.random.expovariate(4.0)))
        if running:
            await asyncio.wait(set(running), timeout=45)
        if left := len(running):
            self.count["left at the end"] = left
            self.engine.tokenizer_manager.abort_request(abort_all=True)
            await asyncio.wait(set(running), timeout=10)
        last = await self.canary(canary)
        self.tell(time.monotonic() - start, len(running))
        self.note("alive", same_answer=first == last, answered=len(last))

    async def canary(self, prompt: list[int]) -> list[int]:
        sampling = {"temperature": 0.0, "max_new_tokens": 32, "ignore_eos": True}
        output = await asyncio.wait_for(self.engine.async_generate(input_ids=prompt, sampling_params=sampling), 150)
        return list(output["output_ids"])

    def shape(self) -> tuple[int, int]:
        """(own prompt tokens, new tokens)."""
        kind = self.random.random()
        low, high = (4, 200) if kind < 0.5 else (200, 1500) if kind < 0.8 else (1500, 5000)
        return self.random.randrange(low, high), self.random.choice((1, 3, 16, 64, 64, 128, 256, 600))

    async def one(self, prompt: int, new_tokens: int) -> None:
        self.count["sent"] += 1
        rid = f"soak-{self.count['sent']}."  # ends in a dot: an abort takes all that begin with its rid
        own = ids(self.random, prompt)
        if self.random.random() < 0.5:
            self.count["with a shared prefix"] += 1
            prefix = self.random.choice(self.prefixes)
            own = prefix[: self.random.choice((len(prefix), len(prefix), len(prefix) // 2))] + own
        own = own[: CONTEXT - new_tokens]
        abort_after = self.random.expovariate(0.7) if self.random.random() < 0.2 else None
        sampling: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": new_tokens, "ignore_eos": True}
        if self.random.random() < 0.4:
            # The scheduler learns of it a step late: the next batch with the request in it is under way by then.
            stops = self.random.sample(self.said, min(self.STOPS, len(self.said)))
            sampling |= {"ignore_eos": False, "stop_token_ids": stops}
        timer = None
        if abort_after is not None:
            abort = self.engine.tokenizer_manager.abort_request
            timer = self.engine.loop.call_later(abort_after, lambda: abort(rid=rid))
        try:
            output = await self.engine.async_generate(input_ids=own, sampling_params=sampling, rid=rid)
            reason = output["meta_info"].get("finish_reason") or {}
            self.said = [*dict.fromkeys([*self.said, *output["output_ids"]])][-200:]
            self.cached += int(output["meta_info"].get("cached_tokens") or 0)
            whole = len(output["output_ids"]) == new_tokens
            aborted = isinstance(reason, dict) and reason.get("type") == "abort"
            stopped = isinstance(reason, dict) and reason.get("type") == "stop"
            kind = "aborted" if aborted else "finished" if whole else "stopped by itself" if stopped else "short"
            self.count[kind] += 1
            self.count["output tokens"] += len(output["output_ids"])
            self.count["input tokens"] += len(own)
            if aborted and abort_after is None:
                self.count["aborted by the server"] += 1
                self.errors.append(str(reason.get("message"))[:200])
        except Exception as error:
            # An abort of a request that waits comes as an exception.
            self.count["failed" if abort_after is None else "aborted"] += 1
            if abort_after is None:
                self.errors.append(f"{type(error).__name__}: {error}"[:200])
        finally:
            if timer:
                timer.cancel()

    def tell(self, seconds: float, running: int) -> None:
        self.note(
            "progress",
            seconds=round(seconds, 1),
            running=running,
            counts=dict(self.count),
            cached_tokens=self.cached,
            errors=self.errors[:5],
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
