"""The `g4times` sglang plugin: the host's time in each of g4diag's hooks, by what is armed. For `trap_blocks.py`.

HOOKTIMES_FILE: JSON, written anew every 200 steps of the scheduler: what is armed -> steps, and by hook [calls,
microseconds]. Hooks that are put on before there is a file of that name with the suffix .on are not timed. Of a hook
around a function its own time alone, without the function's. The first steps of an arming are left out. A timed call
costs some 0.3 us itself. `read` sorts the file.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

STEP, EVERY, LEFT_OUT = "Scheduler.run_batch", 200, 3
now = time.perf_counter_ns


class Times:
    """By what is armed and hook: calls and nanoseconds."""

    def __init__(self, file: Path) -> None:
        self._file, self._written = file, 0
        self.steps: dict[str, int] = defaultdict(int)
        self.spent: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
        self._fresh, self._counts = 0, ""  # of several hooks of a step one counts them

    def add(self, armed: str, hook: str, spent: int) -> None:
        """One call of a hook."""
        is_step = hook.endswith(STEP) and self._counts in (hook, "")
        if is_step:
            self._counts, self._fresh = hook, self._fresh + 1
        if self._fresh <= LEFT_OUT:
            return
        found = self.spent[armed][hook]
        found[0] += 1
        found[1] += spent
        if is_step:
            self._stepped(armed)

    def _stepped(self, armed: str) -> None:
        self.steps[armed] += 1
        if sum(self.steps.values()) - self._written >= EVERY:
            self._written += EVERY
            found = {
                name: {
                    "steps": self.steps[name],
                    "hooks": {hook: [calls, spent / 1000] for hook, (calls, spent) in hooks.items()},
                }
                for name, hooks in self.spent.items()
            }
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps(found))
            part.rename(self._file)

    def rearmed(self) -> None:
        """The steps after it are left out."""
        self._fresh, self._counts = 0, ""


def name_of(entry: Any) -> str:
    """Its function, kind and target."""
    function = getattr(entry.hook.function, "__qualname__", "a partial")
    return f"{function} {entry.hook.kind} {entry.hook.target.removeprefix('sglang.srt.')}"


def timed(times: Any, entry: Any) -> Any:
    """The same entry, its hook's own time told to `times.add(armed, hook, nanoseconds)`."""
    function, kind = entry.hook.function, entry.hook.kind
    if kind == "replace":
        return entry
    armed = f"{os.environ.get('G4DIAG_TRAPS')}, recorder {os.environ.get('G4DIAG_RECORDER')}"
    name = name_of(entry)

    def call(*args: Any, **kwargs: Any) -> Any:
        begun = now()
        try:
            return function(*args, **kwargs)
        finally:
            times.add(armed, name, now() - begun)

    def around(original: Any, *args: Any, **kwargs: Any) -> Any:
        inside = 0

        def inner(*args: Any, **kwargs: Any) -> Any:
            nonlocal inside
            begun = now()
            try:
                return original(*args, **kwargs)
            finally:
                inside += now() - begun

        begun = now()
        try:
            return function(inner, *args, **kwargs)
        finally:
            times.add(armed, name, now() - begun - inside)

    return replace(entry, hook=replace(entry.hook, function=around if kind == "around" else call))


def read(file: Path, least: float = 0.5) -> list[tuple[str, str, float, float]]:
    """(what is armed, hook, calls a step, microseconds a step), the dearest first; hooks of less than `least` us and
    all together last, as one row each. A file without steps is refused: ValueError."""
    rows = []
    for armed, found in json.loads(file.read_text()).items():
        if not found["steps"]:
            raise ValueError(f"{file}: no steps with {armed} armed")
        each = {hook: (calls / found["steps"], us / found["steps"]) for hook, (calls, us) in found["hooks"].items()}
        dear = sorted((hook for hook in each if each[hook][1] >= least), key=lambda hook: -each[hook][1])
        rows += [(armed, hook, *each[hook]) for hook in dear]
        for name, hooks in (("the others", set(each) - set(dear)), ("all", set(each))):
            rows.append((armed, name, sum(each[h][0] for h in hooks), sum(each[h][1] for h in hooks)))
    return rows


def register() -> None:
    """Entry point."""
    from g4diag.hooks import dispatcher

    file, kind = Path(os.environ["HOOKTIMES_FILE"]), dispatcher.Dispatcher
    times, switch = Times(file), file.with_suffix(".on")
    compose, add, remove = dispatcher.compose, kind.add, kind.remove
    known: dict[int, tuple[Any, Any]] = {}

    def composed(original: Any, entries: Any) -> Any:
        for entry in entries:
            if id(entry) not in known:
                known[id(entry)] = (entry, timed(times, entry) if switch.exists() else entry)
        return compose(original, [known[id(entry)][1] for entry in entries])

    def added(self: Any, entry: Any) -> None:
        times.rearmed()
        add(self, entry)

    def removed(self: Any, entry: Any) -> None:
        remove(self, entry)
        known.pop(id(entry), None)

    dispatcher.compose = composed  # type: ignore[assignment]
    kind.add, kind.remove = added, removed  # type: ignore[method-assign]
