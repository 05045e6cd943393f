"""The `g4bench` sglang plugin: when each scheduler step begins, in a mapped file; and the fork's check, re-made.

TRAPBENCH_CLOCK: the file. int64 [rows, 3]; row 0 is (rows written, launches of g4diag's device check or -1, 0), the
others (ns, 1 for decode, batch), of rank 0. Loaded in every configuration that is compared, so its microsecond is in
all of them. TRAPBENCH_LAUNCHES: the launches are counted. TRAPBENCH_JUDGED: judged.json beside that file says what each
armed trap judged on the host so far, every 500 steps.
TRAPBENCH_MODES: a folder; what `mode.json` there sets of G4DIAG_* is disarmed and armed anew in this process, between
steps, and said in `mode-N.ack`. Graphs stay as they were captured.
TRAPBENCH_BLOCKS: JSON of `Blocks`' arguments: what is armed changes by itself, every so many decode steps of the whole
batch; blocks.jsonl beside TRAPBENCH_CLOCK's file has a row a block.
TRAPBENCH_FORK_CHECK=1: before each attention kernel the host waits for `block_tables.max()` and compares it with the
layer's own pool, as the fork's debugging aid did. Eager only: a captured graph cannot wait for the host. Where it would
stop the server it says so the first time, counts, and goes on: 0.5.23 leaves a row's columns past its keys as memory
was, healthy or not. Its counts are logged every 200 looks.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
from pathlib import Path
from typing import Any

ROWS = 400_000
SCHEDULER = "sglang.srt.managers.scheduler.Scheduler"
BACKEND = "sglang.srt.layers.attention.trtllm_mha_backend.TRTLLMHAAttnBackend"


def device_checks() -> list[Any]:
    """Every device check of this process: captured graphs write to what it holds."""
    return alive("DeviceCheck")


def alive(kind: str) -> list[Any]:
    """Every object of this process whose class has that name."""
    import gc

    return [found for found in gc.get_objects() if type(found).__name__ == kind]


def write_judged(path: Path, armed: list[Any]) -> None:
    """How much each armed trap has judged on the host so far: {trap: views}, whole or not at all. Those that are judged
    on the device alone are left out."""
    found = {trap.name: 0 for live in armed for trap in live._traps}
    for live in armed:
        for (trap, *_), views in live.tally.checks.items():
            found[trap] = found.get(trap, 0) + views
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found))
    part.replace(path)


def rearm(environment: dict[str, str]) -> Any:
    """Disarm, and arm what these G4DIAG_* say; the outcome."""
    from g4diag import plugin

    plugin.disarm()
    os.environ.update(environment)
    plugin.register()
    return plugin.outcome()


class Modes:
    """What is armed in this process, changed while it runs."""

    def __init__(self, folder: Path) -> None:
        self._file, self._number, self._next = folder / "mode.json", -1, 0.0
        self._kept: list[Any] = []

    def look(self) -> None:
        """A few times a second: is something else wanted?"""
        if (now := time.monotonic()) < self._next:
            return
        self._next = now + 0.2
        try:
            wanted = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return
        if wanted["number"] != self._number:
            self._number = wanted["number"]
            self._file.with_name(f"mode-{self._number}.ack").write_text(self._change(wanted["environment"]))

    def _change(self, environment: dict[str, str]) -> str:
        # What captured graphs write to must outlive the hooks.
        self._kept += device_checks()
        try:
            return str(rearm(environment).state)
        except Exception as error:
            return f"{type(error).__name__}: {error}"


class Blocks:
    """What is armed in this process, changed every `steps` decode steps of `batch` requests. modes: name -> G4DIAG_*.
    Each cycle has every mode once, in random order. A row a block is written when it ends: its mode, cycle, the clock's
    rows from `first` up to `end`, how many traps were armed, the steps that they saw and the seconds to arm them."""

    def __init__(self, file: Path, steps: int, batch: int, modes: dict[str, dict[str, str]]) -> None:
        self._file, self._steps, self._batch, self._modes = file, steps, batch, modes
        self._random, self._cycle, self._left = random.Random(0), -1, list[str]()
        self._block: dict[str, Any] = {}
        self._taken, self._armed = steps, list[Any]()
        self._kept: list[Any] = []

    def next_row(self, row: int, batch: int) -> None:
        """The clock is about to write this row, of a decode step."""
        if batch != self._batch:
            return
        if self._taken < self._steps:
            self._taken += 1
            return
        if self._block:
            seen = sum(armed.live.step for armed in self._armed)
            with self._file.open("a") as stream:
                stream.write(json.dumps(self._block | {"end": row, "seen": seen}) + "\n")
        self._change(row)

    def _change(self, row: int) -> None:
        if not self._kept:
            self._prepare()
        if not self._left:
            self._cycle, self._left = self._cycle + 1, list(self._modes)
            self._random.shuffle(self._left)
        mode, begun = self._left.pop(), time.monotonic()
        self._armed.clear()
        outcome = rearm(self._modes[mode])
        traps = len(outcome.manifest.get("traps", ()))
        about = {"mode": mode, "cycle": self._cycle, "first": row, "traps": traps, "state": outcome.state}
        self._block, self._taken = about | {"seconds": time.monotonic() - begun}, 0

    def _prepare(self) -> None:
        """Once: what captured graphs write to is kept, names are looked for a single time, what is armed is known."""
        from g4diag.hooks import aliases
        from g4diag.stack.live import arming

        self._kept = device_checks() or [None]
        logging.getLogger("sglang.srt.plugins.hook_registry").setLevel(logging.WARNING)
        names = aliases.one_pass()
        names.__enter__()
        self._kept.append(names)
        armed = arming.armed

        def kept(*args: Any, **kwargs: Any) -> Any:
            self._armed.append(armed(*args, **kwargs))
            return self._armed[-1]

        arming.armed = kept  # type: ignore[assignment]


def is_first_rank() -> bool:
    """Of this server's processes, as far as they know each other."""
    from torch import distributed

    return not (distributed.is_initialized() and distributed.get_rank())


class Clock:
    """One scheduler's steps. The file is made at the first one."""

    def __init__(self, path: str) -> None:
        self._path, self._count = path, 0
        self._table: Any = None
        self._checks, self._armed = list[Any](), list[Any]()
        self._modes = Modes(Path(folder)) if (folder := os.environ.get("TRAPBENCH_MODES")) else None
        blocks = os.environ.get("TRAPBENCH_BLOCKS")
        self._blocks = Blocks(Path(path).with_name("blocks.jsonl"), **json.loads(blocks)) if blocks else None

    def after(self, chosen: Any, *args: Any, **kwargs: Any) -> None:
        """Hook after `get_next_batch_to_run`. Never raises, never changes the result."""
        batch = getattr(chosen, "batch_to_run", chosen)  # 0.5.23 returns a plan that holds it
        if self._modes:
            self._modes.look()
        if not batch or self._count >= ROWS - 1:
            return
        try:
            if not self._count and not is_first_rank():
                self._count = ROWS
                return
            self._note(batch)
        except Exception:
            logging.getLogger("g4bench").exception("g4bench: the clock stops")
            self._count = ROWS

    def _note(self, batch: Any) -> None:
        if self._table is None:
            import numpy as np

            self._table = np.memmap(self._path, dtype=np.int64, mode="w+", shape=(ROWS, 3))
            self._table[0] = (0, -1, 0)
        decodes = int(batch.forward_mode.is_decode())
        if self._blocks and decodes:
            self._blocks.next_row(self._count, len(batch.reqs))
        self._count += 1
        self._table[self._count] = (time.perf_counter_ns(), decodes, len(batch.reqs))
        self._table[0, 0] = self._count
        if os.environ.get("TRAPBENCH_LAUNCHES") and self._count % 500 == 100:
            self._table[0, 1] = self._launches()
        if os.environ.get("TRAPBENCH_JUDGED") and self._count % 500 == 100:
            self._armed = self._armed or alive("Live")
            write_judged(Path(self._path).with_name("judged.json"), self._armed)

    def _launches(self) -> int:
        if not self._checks:
            self._checks = device_checks()
        return sum(int(check.launches) for check in self._checks) if self._checks else -1


class ForkCheck:
    """Around `_get_layer_page_table`: one host sync a layer. Counts its looks, and those at which it would stop."""

    EVERY = 200  # looks between two lines of the counts

    def __init__(self) -> None:
        self.looks = self.stops = 0

    def around(self, original: Any, backend: Any, layer: Any, forward_batch: Any) -> Any:
        """The table, as it was."""
        log = logging.getLogger("g4bench")
        if not self.looks:
            log.warning("g4bench: the fork's check runs")
        table = original(backend, layer, forward_batch)
        pages = backend.token_to_kv_pool.get_kv_buffer(layer.layer_id)[0].shape[0] // backend.page_size
        self.looks += 1
        if (highest := int(table.max())) >= pages:
            if not self.stops:
                log.warning(
                    "g4bench: the fork's check would stop here: page %d >= %d pages, layer %d",
                    highest,
                    pages,
                    layer.layer_id,
                )
            self.stops += 1
        if self.looks % self.EVERY == 0:
            log.warning("g4bench: the fork's check would have stopped %d of %d looks", self.stops, self.looks)
        return table


def register() -> None:
    """Entry point."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    if path := os.environ.get("TRAPBENCH_CLOCK"):
        HookRegistry.register(f"{SCHEDULER}.get_next_batch_to_run", Clock(path).after, HookType.AFTER)
    if os.environ.get("TRAPBENCH_FORK_CHECK"):
        HookRegistry.register(f"{BACKEND}._get_layer_page_table", ForkCheck().around, HookType.AROUND)
