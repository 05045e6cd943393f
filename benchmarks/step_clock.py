"""The `g4bench` sglang plugin: when each scheduler step begins, in a mapped file; and the fork's check, re-made.

TRAPBENCH_CLOCK: the file. int64 [rows, 3]; row 0 is (rows written, launches of g4diag's device check or -1, 0), the
others (ns, 1 for decode, batch). Loaded in every configuration that is compared, so its microsecond is in all of them.
TRAPBENCH_MODES: a folder; what `mode.json` there sets of G4DIAG_* is disarmed and armed anew in this process, between
steps, and said in `mode-N.ack`. Graphs stay as they were captured.
TRAPBENCH_FORK_CHECK=1: before each attention kernel the host waits for `block_tables.max()` and compares it with the
layer's own pool, as the fork's debugging aid did. Eager only: a captured graph cannot wait for the host.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

ROWS = 400_000
SCHEDULER = "sglang.srt.managers.scheduler.Scheduler"
BACKEND = "sglang.srt.layers.attention.trtllm_mha_backend.TRTLLMHAAttnBackend"


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
        import gc

        from g4diag import plugin

        # What captured graphs write to must outlive the hooks.
        self._kept += [found for found in gc.get_objects() if type(found).__name__ == "DeviceCheck"]
        try:
            plugin.disarm()
            os.environ.update(environment)
            plugin.register()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return plugin.outcome().state


class Clock:
    """One scheduler's steps. The file is made at the first one."""

    def __init__(self, path: str) -> None:
        self._path, self._count = path, 0
        self._table: Any = None
        self._checks: list[Any] = []
        self._modes = Modes(Path(folder)) if (folder := os.environ.get("TRAPBENCH_MODES")) else None

    def after(self, chosen: Any, *args: Any, **kwargs: Any) -> None:
        """Hook after `get_next_batch_to_run`. Never raises, never changes the result."""
        batch = getattr(chosen, "batch_to_run", chosen)  # 0.5.23 returns a plan that holds it
        if self._modes:
            self._modes.look()
        if not batch or self._count >= ROWS - 1:
            return
        try:
            self._note(batch)
        except Exception:
            self._count = ROWS

    def _note(self, batch: Any) -> None:
        if self._table is None:
            import numpy as np

            self._table = np.memmap(self._path, dtype=np.int64, mode="w+", shape=(ROWS, 3))
            self._table[0] = (0, -1, 0)
        self._count += 1
        self._table[self._count] = (time.perf_counter_ns(), int(batch.forward_mode.is_decode()), len(batch.reqs))
        self._table[0, 0] = self._count
        if os.environ.get("TRAPBENCH_LAUNCHES") and self._count % 500 == 100:
            self._table[0, 1] = self._launches()

    def _launches(self) -> int:
        if not self._checks:
            import gc

            self._checks = [found for found in gc.get_objects() if type(found).__name__ == "DeviceCheck"]
        return sum(int(check.launches) for check in self._checks) if self._checks else -1


def fork_check(original: Any, backend: Any, layer: Any, forward_batch: Any) -> Any:
    """Around `_get_layer_page_table`: one host sync a layer."""
    table = original(backend, layer, forward_batch)
    pages = backend.token_to_kv_pool.get_kv_buffer(layer.layer_id)[0].shape[0] // backend.page_size
    if (highest := int(table.max())) >= pages:
        raise RuntimeError(f"fork check: page {highest} >= {pages} pages, layer {layer.layer_id}")
    return table


def register() -> None:
    """Entry point."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    if path := os.environ.get("TRAPBENCH_CLOCK"):
        HookRegistry.register(f"{SCHEDULER}.get_next_batch_to_run", Clock(path).after, HookType.AFTER)
    if os.environ.get("TRAPBENCH_FORK_CHECK"):
        HookRegistry.register(f"{BACKEND}._get_layer_page_table", fork_check, HookType.AROUND)
