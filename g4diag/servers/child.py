"""The process that holds one real sglang Engine: `python -m g4diag.servers.child JOB.json`.

Starts it, sends the workload all at once, in its turn if servers take turns, and appends one JSON line for each thing
that happened, each flushed, so that what was reached is known however the process ends: a dead scheduler takes this
process with it.
Kept light at import: sglang spawns its own processes from this module.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from g4diag.servers.parent import end_with_parent


def prompts(seed: int, requests: int, prompt_tokens: int, vocab: int) -> list[list[int]]:
    """Random token ids, the same for the same seed; the special ids at both ends of the vocabulary are left out."""
    import random

    generator = random.Random(seed)
    return [[generator.randrange(8, vocab - 16) for _ in range(prompt_tokens)] for _ in range(requests)]


def load(job: dict[str, Any], seed: int, requests: int) -> list[list[int]]:
    """Prompts that suit the job's pair: random token ids, or the accepting pair's task."""
    if job["pair"] == "random":
        return prompts(seed, requests, job["prompt_tokens"], job["vocab"])
    from g4diag.stack.pairs.accepting_pair import task
    from g4diag.stack.pairs.tiny_pair import WINDOW

    return task.prompts(requests, job["prompt_tokens"], seed, WINDOW)


@contextmanager
def turn(folder: str | None) -> Iterator[None]:
    """Alone among the servers that share `folder`, once a file `go` lies in it. The lock ends with its process."""
    if folder is None:
        yield
        return
    import fcntl

    while not (Path(folder) / "go").exists():
        time.sleep(0.1)
    with (Path(folder) / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(job_file: str) -> int:
    """Run the job. 0: every request came back."""
    with noted(job_file) as (job, note):
        return _serve(job, note)


@contextmanager
def noted(job_file: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """(the job, what notes an event of it); the error that ends the body is the last event. The process ends with who
    started it, and sglang's own end with this one."""
    end_with_parent(signal.SIGKILL)
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    with Path(job["events"]).open("a", encoding="utf-8") as stream:

        def note(event: str, **values: Any) -> None:
            stream.write(json.dumps({"event": event, "at": round(time.time() - job["started"], 3)} | values) + "\n")
            stream.flush()

        try:
            yield job, note
        except BaseException as error:
            note("error", error=f"{type(error).__name__}: {error}"[:2000])
            raise


def _serve(job: dict[str, Any], note: Any) -> int:
    import asyncio

    note("importing")
    from g4diag.stack import entry_points

    entry_points.imported()
    note("starting")
    engine = entry_points.engine(**job["engine"])
    note("ready")

    async def answer(ids: list[int], new_tokens: int) -> tuple[dict[str, Any], list[float]]:
        """The last of its outputs, which holds the earlier ones, and when each came."""
        sampling = {"temperature": 0.0, "max_new_tokens": new_tokens, "ignore_eos": True}
        last: dict[str, Any] = {}
        came = []
        async for output in await engine.async_generate(input_ids=ids, sampling_params=sampling, stream=True):
            last = output
            came.append(time.time() - job["started"])
        return last, came

    async def one(index: int, ids: list[int]) -> None:
        output, came = await answer(ids, job["new_tokens"])
        meta = _plain(output.get("meta_info", {}))
        note("finished", index=index, tokens=list(output["output_ids"]), meta=meta, first=came[0], last=came[-1])

    async def everything() -> None:
        await asyncio.gather(*(one(index, ids) for index, ids in enumerate(load(job, job["seed"], job["requests"]))))

    async def warm_up() -> None:
        # What compiles at the first batch would else be in the rates. Other prompts, or the cache would hold these.
        await asyncio.gather(*(answer(ids, 16) for ids in load(job, job["seed"] + 1, job["warm"])))

    engine.loop.run_until_complete(warm_up())
    note("warm")
    with turn(job["turns"]):
        note("sending")
        engine.loop.run_until_complete(everything())
        note("served")
    try:
        states = engine.get_server_info()["internal_states"]
        note("info", internal=_plain(states[0] if states else {}))
    except Exception as error:
        note("info", error=f"{type(error).__name__}: {error}")
    engine.shutdown()
    note("stopped")
    return 0


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """The numbers and short texts of a metadata dict."""
    return {
        k: v for k, v in values.items() if isinstance(v, int | float | bool) or (isinstance(v, str) and len(v) < 80)
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
