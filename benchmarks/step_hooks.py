"""The host's time in each hook of armed traps over steady decode steps, and what a GPU would be asked for: on a CPU.

    python benchmarks/step_hooks.py --traps page-table [--steps 1000] [--requests 32] [--cold 8]

A step is a draft's batch and a target's, built by sglang and handed to their graph runners, and a decode's allocation
and eviction on sglang's own allocator. What only a device does, forwards and replays, is left out. Tensors of the CPU
go the ways of a GPU's. `--cold`: MiB that are walked through before each step, so that caches hold other data, as a
server's do. Prints by hook calls a step, microseconds a call (the mean of all but the slowest twentieth), and operators
a step that would be launched or copied on a GPU. Its microseconds compare two states of this code: a launch costs a
GPU's host others. Exit code 4 where a violation was found or the last batch was not told.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import hook_times
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from g4diag.stack.drive import cpu

PAGE, WINDOW, PROMPT = 64, 128, 200
WARM, SLOWEST = 20, 20  # steps before any is timed; one call of so many is left out
NO_LAUNCH = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "detach", "alias", "lift_fresh"})
AS_ON_A_GPU = (
    ("g4diag.stack.probes.async_copies", ".is_cuda", ".is_cpu"),
    ("g4diag.stack.probes.handed_out", "if slots_M.is_cpu", "if not slots_M.is_cpu"),
)


class Launches(TorchDispatchMode):
    """Names of operators that would make a GPU do something."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if not func.is_view and name not in NO_LAUNCH:
            self.names.append(name)
        return func(*args, **kwargs or {})


class Hooks:
    """What each hook took, in nanoseconds, and launched. mode: "" for neither, "time" or "count"."""

    def __init__(self) -> None:
        self.mode = ""
        self.spent: dict[str, list[int]] = defaultdict(list)
        self.launched: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, armed: str, hook: str, spent: int) -> None:
        """One call, as `hook_times.timed` tells of it."""
        if self.mode == "time":
            self.spent[hook].append(spent)

    def counted(self, entry: Any) -> Any:
        """The same entry, whose operators are counted in that mode."""
        function, name = entry.hook.function, hook_times.name_of(entry)
        if entry.hook.kind in ("around", "replace"):  # what it is around would be counted with it
            return entry

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.mode != "count":
                return function(*args, **kwargs)
            with Launches() as launches:
                result = function(*args, **kwargs)
            self.launched[name].update(launches.names)
            return result

        call.__qualname__ = getattr(function, "__qualname__", "a partial")
        return replace(entry, hook=replace(entry.hook, function=call))

    @contextmanager
    def put_on(self) -> Iterator[None]:
        """Every hook that is put on in the body tells us."""
        from g4diag.hooks import dispatcher

        compose, known = dispatcher.compose, dict[int, Any]()

        def composed(original: Any, entries: Any) -> Any:
            for entry in entries:
                if id(entry) not in known:
                    known[id(entry)] = (entry, hook_times.timed(self, self.counted(entry)))
            return compose(original, [known[id(entry)][1] for entry in entries])

        dispatcher.compose = composed  # type: ignore[assignment]
        try:
            yield
        finally:
            dispatcher.compose = compose


class Device:
    """What `async_copies` needs of a device: everything is there at once. asked: events and pinned buffers."""

    asked: ClassVar[Counter[str]] = Counter()

    def buffer(self, numbers: int) -> Any:
        self.asked["pinned buffer"] += 1
        return torch.empty(numbers, dtype=torch.int64)

    def event(self) -> Any:
        self.asked["event"] += 1
        return self

    def stream(self) -> int:
        return 0

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass


def take_a_gpus_ways() -> None:
    """In our modules that have another for a CPU. SystemExit where the source that is changed is another."""
    for name, told, wanted in AS_ON_A_GPU:
        module: Any = importlib.import_module(name)
        source = Path(module.__file__).read_text()
        if told not in source:
            raise SystemExit(f"step_hooks: {name}: wanted {told!r} in it, found none")
        exec(compile(source.replace(told, wanted), module.__file__, "exec"), vars(module))


class Server:
    """sglang's classes with the forwards left out. Made before traps are armed, so that our hooks are outside, and
    begun after."""

    def __init__(self, requests: int, steps: int) -> None:
        from sglang.srt.managers.scheduler import Scheduler
        from sglang.srt.model_executor.model_runner import ModelRunner

        from g4diag.stack.drive.serving import Geometry
        from g4diag.stack.releases import current

        self.requests, self.is_steady = requests, False
        self._runners: dict[str, tuple[Any, str]] = {}
        for name in ("replay.target", "replay.frozen_draft"):
            owner, _, method = current().path(name).rpartition(".")
            module, _, kind = owner.rpartition(".")
            found = getattr(importlib.import_module(module), kind)
            setattr(found, method, lambda self, forward_batch, *args: None)
            self._runners[name] = found, method
        honest, server = ModelRunner.forward, self

        def forward(self: Any, forward_batch: Any, *args: Any, **kwargs: Any) -> Any:
            if not server.is_steady:
                return honest(self, forward_batch, *args, **kwargs)
            return server._replay("replay.target", self, forward_batch)

        ModelRunner.forward = forward
        Scheduler.run_batch = lambda self, batch, *args: server._run(batch)
        Scheduler.process_batch_result = lambda self, batch, result, *args: None
        self._scheduler = object.__new__(Scheduler)
        tokens = -(-requests * (PROMPT + steps + 4 * PAGE) // PAGE) * PAGE
        sizes = {"page_size": PAGE, "window": WINDOW, "prompt": PROMPT, "requests": requests, "live": requests}
        admissions = -(-steps // requests) + 1
        self._geometry = Geometry(full_tokens=tokens, ratio=1.0, chunk=0, steps_per_admission=admissions, **sizes)

    def begin(self, live: Any) -> None:
        """Admit the requests, and let captured checks be held against what is told."""
        from g4diag.stack.drive.frozen_draft import FrozenDraft
        from g4diag.stack.drive.serving import Serving

        self.serving = Serving(self._geometry, seed=0)
        self._draft = FrozenDraft(self.serving)
        for i in range(self.requests):
            ids = [(1 + 7 * i + 13 * at) % self.serving.pair.VOCAB for at in range(PROMPT - i)]
            if not self.serving.admit(f"r{i}", ids):
                raise SystemExit(f"step_hooks: wanted room for {self.requests} requests, found some for {i}")
        device = live.device
        for worker, phase in (("target", "decode"), ("draft", "draft_decode")):
            device.told.of(worker, phase, torch.zeros(1), slots=device.judges_writes and worker == "target")
            device._boxes.of(worker)
        self.is_steady = True

    def step(self) -> None:
        """A scheduler's, of the running batch."""
        batch = self.serving.running
        batch.input_ids = torch.zeros(len(batch.reqs), dtype=torch.int64)
        batch.prepare_for_decode()
        for req in batch.reqs:
            req.output_ids.append(1)
        self._scheduler.process_batch_result(batch, self._scheduler.run_batch(batch))

    def _run(self, batch: Any) -> None:
        from g4diag.stack.drive.driver import driver

        drafted = self._draft.prepared()
        drafted.seq_lens = batch.seq_lens  # of which the driver has made a copy; sglang hands on the very tensor
        self._replay("replay.frozen_draft", self._draft.worker.draft_model_runner, drafted)
        self.serving.runner.forward(driver().forward_batch(batch, self.serving.runner, "LAST"))

    def _replay(self, name: str, model_runner: Any, forward_batch: Any) -> None:
        kind, method = self._runners[name]
        runner = object.__new__(kind)
        runner.model_runner = model_runner
        getattr(runner, method)(forward_batch)


@contextmanager
def armed(traps: tuple[str, ...], hooks: Hooks) -> Iterator[Any]:
    """The live sink of these traps, as where there is a GPU."""
    from g4diag.settings import Selection
    from g4diag.stack.drive.index_kernels import in_torch
    from g4diag.stack.kernels import page_table_check
    from g4diag.stack.live import arming
    from g4diag.stack.live.selection import selected_traps
    from g4diag.stack.probes import async_copies

    class OnDevice(arming.Live):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "on_device": True})

    def blind(query: Any, **arguments: Any) -> Any:
        return torch.zeros_like(query)

    async_copies.Cuda = Device  # type: ignore[assignment, misc]
    page_table_check.check_page_table = lambda table, *args, **kwargs: table
    everything = traps == ("all",)
    chosen = selected_traps(Selection(everything=everything, names=() if everything else traps))
    with ExitStack() as all_of:
        folder = Path(all_of.enter_context(tempfile.TemporaryDirectory()))
        for each in (in_torch(), cpu.attention_kernels(blind, blind), hooks.put_on()):
            all_of.enter_context(each)
        on = all_of.enter_context(arming.armed(chosen, folder, kind=OnDevice))
        yield on.live


def run(traps: tuple[str, ...], steps: int, requests: int, cold: int) -> tuple[Hooks, int, int]:
    """(hooks, steps of which operators were counted, 0 or the exit code)."""
    hooks, counted = Hooks(), max(50, steps // 10)
    server, walked = Server(requests, steps + counted + WARM + 8), torch.zeros(cold << 17, dtype=torch.int64)
    with armed(traps, hooks) as live:
        server.begin(live)
        for mode, count in (("", WARM), ("time", steps), ("count", counted)):
            hooks.mode = mode
            Device.asked.clear()
            for _ in range(count):
                walked += 1
                server.step()
        hooks.mode = ""
        told, running = live.device.told.of("target", "decode", torch.zeros(1)), server.serving.running
        right = told.requests == requests and told.lengths_M[:requests].tolist() == running.seq_lens.tolist()
    if live.seen or not right:
        print(f"step_hooks: wanted the last batch told and no violation, found {right}, {live.seen}", file=sys.stderr)
    return hooks, counted, 4 if live.seen or not right else 0


def microseconds(spent: list[int]) -> float:
    """The mean of all but the slowest."""
    return statistics.mean(sorted(spent)[: len(spent) - len(spent) // SLOWEST]) / 1000


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--traps", default="page-table")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--cold", type=int, default=0)
    given = parser.parse_args()
    cpu.prepare_environment()
    cpu.use_one_thread()
    take_a_gpus_ways()
    hooks, counted, code = run(tuple(given.traps.split(",")), given.steps, given.requests, given.cold)
    rows = [(name, len(spent) / given.steps, microseconds(spent)) for name, spent in hooks.spent.items()]
    for name, calls, each in sorted(rows, key=lambda row: -row[1] * row[2]):
        launched = {operator: count / counted for operator, count in hooks.launched[name].items()}
        print(f"{calls * each:7.2f} us a step  {calls:4.2f} x {each:6.2f} us  {name}  {launched or ''}")
    launched_all = sum(counter.total() for counter in hooks.launched.values()) / counted
    asked = "".join(f", {count / counted:.2f} {name}s" for name, count in Device.asked.items())
    print(f"{sum(row[1] * row[2] for row in rows):7.2f} us a step, {launched_all:.2f} operators{asked}")
    return code


if __name__ == "__main__":
    sys.exit(main())
