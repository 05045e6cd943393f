"""The process that holds one real sglang Engine: `python -m g4diag.stack.server_child JOB.json`.

Starts it, sends the workload all at once, and appends one JSON line for each thing that happened, each flushed, so
that what was reached is known however the process ends: a dead scheduler takes this process with it.
Kept light at import: sglang spawns its own processes from this module.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def prompts(seed: int, requests: int, prompt_tokens: int, vocab: int) -> list[list[int]]:
    """Random token ids, the same for the same seed; the special ids at both ends of the vocabulary are left out."""
    import random

    generator = random.Random(seed)
    return [[generator.randrange(8, vocab - 16) for _ in range(prompt_tokens)] for _ in range(requests)]


def main(job_file: str) -> int:
    """Run the job. 0: every request came back."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    with Path(job["events"]).open("a", encoding="utf-8") as stream:

        def note(event: str, **values: Any) -> None:
            stream.write(json.dumps({"event": event, "at": round(time.time() - job["started"], 3)} | values) + "\n")
            stream.flush()

        try:
            return _serve(job, note)
        except BaseException as error:
            note("error", error=f"{type(error).__name__}: {error}"[:2000])
            raise


def _serve(job: dict[str, Any], note: Any) -> int:
    import asyncio

    note("importing")
    from sglang.srt.entrypoints.engine import Engine

    note("starting")
    engine = Engine(**job["engine"])
    note("ready")
    sampling = {"temperature": 0.0, "max_new_tokens": job["new_tokens"], "ignore_eos": True}
    rows = prompts(job["seed"], job["requests"], job["prompt_tokens"], job["vocab"])

    async def one(index: int, ids: list[int]) -> None:
        output = await engine.async_generate(input_ids=ids, sampling_params=sampling)
        meta = output.get("meta_info", {})
        note("finished", index=index, tokens=list(output["output_ids"]), meta=_plain(meta))

    async def everything() -> None:
        await asyncio.gather(*(one(index, ids) for index, ids in enumerate(rows)))

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
