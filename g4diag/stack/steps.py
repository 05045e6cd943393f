"""A server's steps, as its scheduler takes them: the points where traps are read, and where a level takes effect.

`run_batch` launches a step; `process_batch_result` is where upstream itself waits for the device, so what the device
check found is on the host by then. An exception leaving either is passed on untouched, after a last look at the pinned
verdict: for an illegal access that look is the only witness.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from g4diag.guard import guard
from g4diag.stack.hooks import Hook

SCHEDULER = "sglang.srt.managers.scheduler.Scheduler"


class Watcher(Protocol):
    """Who is told of steps. `end_step` may raise TrapTripped; nothing else of theirs reaches the server."""

    def begin_step(self) -> None: ...

    def end_step(self, rids: Mapping[int, str]) -> None: ...

    def crashed(self, rids: Mapping[int, str], error: BaseException) -> None: ...


class Steps:
    """Hooks of the scheduler that tell one watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def hooks(self) -> list[Hook]:
        """Launching a step, and processing its result."""
        return [
            Hook(f"{SCHEDULER}.run_batch", "around", self._run, observes=True),
            Hook(f"{SCHEDULER}.process_batch_result", "around", self._process, observes=True),
        ]

    def _run(self, original: Any, scheduler: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        with guard("starting a step"):
            self._watcher.begin_step()
        return self._watched(original, scheduler, batch, args, kwargs)

    def _process(self, original: Any, scheduler: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        rids = rids_of(batch)  # before: finished requests give their rows back while the result is processed
        result = self._watched(original, scheduler, batch, args, kwargs)
        self._watcher.end_step(rids)
        return result

    def _watched(self, original: Any, scheduler: Any, batch: Any, args: Any, kwargs: Any) -> Any:
        try:
            return original(scheduler, batch, *args, **kwargs)
        except Exception as error:
            with guard("looking at the verdict after a crash"):
                self._watcher.crashed(rids_of(batch), error)
            raise


def rids_of(batch: Any) -> dict[int, str]:
    """Request row -> rid of a ScheduleBatch. Host values only: each request knows its own row."""
    found: dict[int, str] = {}
    with guard("reading the batch's requests"):
        for req in getattr(batch, "reqs", ()) or ():
            if req.req_pool_idx is not None:
                found[int(req.req_pool_idx)] = str(req.rid)
    return found
