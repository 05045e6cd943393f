"""A server's steps, as its scheduler takes them: the points where traps are read, and where a level takes effect.

`run_batch` launches a step; `process_batch_result` is where upstream itself waits for the device, so what the device
check found is on the host by then. An exception leaving either is passed on untouched, after a last look at the pinned
verdict: for an illegal access that look is the only witness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.stack.releases import current

_STARTING = guard("starting a step")


class Watcher(Protocol):
    """Who is told of steps. `end_step` may raise TrapTripped; nothing else of theirs reaches the server."""

    def begin_step(self) -> None: ...

    def end_step(self, rids: Mapping[int, str]) -> None: ...

    def crashed(self, rids: Mapping[int, str], error: BaseException) -> None: ...


class Steps:
    """Hooks of the scheduler that tell one watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._given_back: dict[str, int] = {}  # rid -> row, while a result is processed

    def hooks(self) -> list[Hook]:
        """Launching a step, processing its result, and rows that finished requests give back meanwhile."""
        release = current()
        hooks = [
            release.hook("scheduler.run_batch", "around", self._run),
            release.hook("scheduler.process_batch_result", "around", self._process),
        ]
        if release.has("rows.free"):  # else a request that finishes in the very step is not named
            hooks.append(release.hook("rows.free", "before", self._freed))
        return hooks

    def _run(self, original: Any, scheduler: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            self._watcher.begin_step()
        except Exception as error:
            if not _STARTING.swallows(error):
                raise
        return self._watched(original, scheduler, batch, args, kwargs)

    def _process(self, original: Any, scheduler: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        self._given_back.clear()
        reqs = tuple(getattr(batch, "reqs", None) or ())  # before: who finishes leaves the batch
        result = self._watched(original, scheduler, batch, args, kwargs)
        self._watcher.end_step(Rids(reqs, self._given_back))
        return result

    def _freed(self, pool: Any, req: Any) -> None:
        if (row := current().read.request_row(req)) is not None:
            self._given_back[req.rid] = int(row)

    def _watched(self, original: Any, scheduler: Any, batch: Any, args: Any, kwargs: Any) -> Any:
        try:
            return original(scheduler, batch, *args, **kwargs)
        except Exception as error:
            with guard("looking at the verdict after a crash"):
                self._watcher.crashed(rids_of(batch), error)
            raise


class Rids(Mapping[int, str]):
    """Request row -> rid of a step's requests, asked of them when somebody wants to know: nearly never. given_back: by
    rid, rows of those that have none any more."""

    def __init__(self, reqs: tuple[Any, ...], given_back: Mapping[str, int]) -> None:
        self.reqs, self._given_back = reqs, given_back
        self._known: dict[int, str] | None = None

    def _all(self) -> dict[int, str]:
        if self._known is None:
            rids = {req.rid for req in self.reqs}
            gone = {row: rid for rid, row in self._given_back.items() if rid in rids}
            self._known = gone | rids_of(self)
        return self._known

    def __getitem__(self, row: int) -> str:
        return self._all()[row]

    def __iter__(self) -> Iterator[int]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


class IdleWork:
    """Work put off to where the host has time: right after a forward was launched, while the device is busy, and
    when the server idles. work: called then, with whether the server idles."""

    def __init__(self, work: Callable[[bool], None]) -> None:
        self._work = work

    def hooks(self) -> list[Hook]:
        """A forward's launch, and the scheduler's idle turn."""
        release = current()
        return [
            release.hook("runner.forward", "after", self._launched),
            release.hook("scheduler.on_idle", "before", self._idle),
        ]

    def _launched(self, result: Any, *args: Any, **kwargs: Any) -> None:
        self._work(False)

    def _idle(self, *args: Any, **kwargs: Any) -> None:
        self._work(True)


def rids_of(batch: Any) -> dict[int, str]:
    """Request row -> rid of a ScheduleBatch. Host values only: each request knows its own row."""
    found: dict[int, str] = {}
    with guard("reading the batch's requests"):
        row_of = current().read.request_row
        for req in getattr(batch, "reqs", ()) or ():
            if (row := row_of(req)) is not None:
                found[int(row)] = req.rid
    return found
