"""The order in which a server of `graph_faults.py` has its faults: each for some steps, then healthy ones after it.

A server imports this beside `graph_faults_plugin.py`. faults.jsonl in a folder gets a row when a fault begins and one
with what each trap counted meanwhile.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS, QUIET = 10, 4
Put = Callable[[str, Any, Any], Callable[[], None]]


class Drive:
    """Each fault for some steps of batches that it is in, and some healthy ones after it. put: (name, scheduler,
    batch), and what takes it back. graphs: how many were seen that faults go into, captured or replayed. mode: of the
    batches, "decode" (of two or more requests) or "extend"."""

    def __init__(
        self, folder: Path, names: list[str], put: Put, graphs: Callable[[], int], mode: str = "decode"
    ) -> None:
        self._file, self._put, self._graphs, self._mode = folder / "faults.jsonl", put, graphs, mode
        self._left, self._name, self._taken, self._undo = list(names), "", 0, list[Callable[[], None]]()
        self._before, self._said, self._seen = Counter[tuple[str, str]](), list[str](), 0
        self._live: Any = None

    def after(self, chosen: Any, scheduler: Any, *args: Any, **kwargs: Any) -> None:
        """Hook after `get_next_batch_to_run`. Never raises."""
        batch = getattr(chosen, "batch_to_run", chosen)
        try:
            if batch and self._counts(batch) and self._graphs():
                self._step(scheduler, batch)
        except Exception:
            logging.getLogger("g4faults").exception("g4faults: stopped at %s", self._name)
            self._left, self._name = [], ""

    def _counts(self, batch: Any) -> bool:
        if self._mode == "extend":
            return bool(batch.forward_mode.is_extend())
        return batch.forward_mode.is_decode() and len(batch.reqs) >= 2

    def _step(self, scheduler: Any, batch: Any) -> None:
        self._taken += 1
        if self._name and self._taken == STEPS:
            self._off()
        if self._name and self._taken >= STEPS + QUIET:
            self._write()
        if not self._name and self._left:
            self._begin(self._left.pop(0), scheduler, batch)

    def _begin(self, name: str, scheduler: Any, batch: Any) -> None:
        self._listen()
        self._forget()
        self._name, self._taken = name, 0
        self._before, self._seen = Counter(self._live.seen), self._graphs()
        self._note({"fault": name, "begun": True, "batch": len(batch.reqs)})
        logging.getLogger("g4faults").warning("g4faults begins: %s", name)
        if name != "healthy":
            self._undo = [self._put(name, scheduler, batch)]

    def _off(self) -> None:
        import torch

        torch.cuda.synchronize()
        while self._undo:
            self._undo.pop()()

    def _write(self) -> None:
        seen = Counter(self._live.seen)
        seen.subtract(self._before)
        counts = {trap: count for (trap, _), count in seen.items() if count}
        self._note({"fault": self._name, "seen": counts, "said": self._said[:6], "graphs": self._graphs() - self._seen})
        self._said.clear()
        self._name = ""

    def _listen(self) -> None:
        """Once: every violation's line, also of those that the log leaves out."""
        if self._live is not None:
            return
        import gc

        (self._live,) = [found for found in gc.get_objects() if type(found).__name__ == "Live"]
        honest = self._live._found

        def heard(violation: Any, view: Any) -> None:
            self._said.append(
                f"{violation.trap} {violation.worker} {violation.phase} {violation.path}: {violation.summary}"
            )
            honest(violation, view)

        self._live._found = heard

    def _forget(self) -> None:
        """The device's boxes name the first bad entry ever: begin anew, while the device is idle."""
        import torch

        torch.cuda.synchronize()
        boxes = self._live.device._boxes
        for box in boxes._boxes.values():
            box.clear()
        boxes._told.clear()

    def _note(self, row: dict[str, Any]) -> None:
        with self._file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
