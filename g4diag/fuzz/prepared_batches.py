"""Batches that are prepared before requests leave and others get their rows, and that have their turn after it.

As sglang does: before a batch is run, the scheduler's own filter says which of its requests are still there. One that
lost none runs as it was prepared, one that lost some is prepared anew, one that lost all is never read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import precondition

from g4diag.fuzz.backend_requests import BackendRequests, step_of
from g4diag.fuzz.backend_steps import Step
from g4diag.fuzz.rules import rule
from g4diag.fuzz.strategies import tokens
from g4diag.stack.drive.prepared import scheduled, still_there
from g4diag.stack.drive.request_state import request_row

PREPARED = ("prepared_target", "prepared_draft", "prepared_anew", "prepared_dropped", "row_recycled_under_prepared")


@dataclass(frozen=True)
class Prepared:
    """One forward that is ready. scheduled: its ScheduleBatch. batch: its ForwardBatch."""

    step: Step
    is_draft: bool
    scheduled: Any
    batch: Any


class PreparedBatches(BackendRequests):
    """Base of the machine."""

    @precondition(lambda self: self.held)
    @rule(
        is_draft=st.booleans(),
        meanwhile=st.sampled_from(["nothing", "hand_row_over", "leave"]),
        which=st.integers(0, 3),
        length=tokens(1),
    )
    def prepare_and_run(self, is_draft: bool, meanwhile: str, which: int, length: int) -> None:
        """A decode of all requests, or a frozen-KV draft of them, is prepared; one of them finishes, and a new one of
        `length` tokens gets its row; then comes its turn."""
        ready = self._made_ready(self.live(), is_draft and self.has_frozen())
        if ready is None:
            return
        if meanwhile != "nothing":
            leaver = ready.step.rids[which % len(ready.step.rids)]
            row = request_row(self.held[leaver])
            self._give_back(leaver)
            if meanwhile == "hand_row_over":
                self._admit_at(row, length)
        self._take_turn(ready)

    def _take_turn(self, prepared: Prepared) -> None:
        names = self.call(still_there, prepared.scheduled)
        there = [rid for rid in prepared.step.rids if f"r{rid}" in names]
        ready: Prepared | None = prepared
        if len(there) < len(prepared.step.rids):
            ready = self._made_ready(there, prepared.is_draft)
            self.cover("prepared_dropped" if ready is None else "prepared_anew")
        if ready is not None:
            self.ready_step(ready.step, ready.batch, is_draft=ready.is_draft)
            self.cover("prepared_draft" if ready.is_draft else "prepared_target")
            if not ready.is_draft:
                self._commit(dict.fromkeys(ready.step.rids, 1))

    def _made_ready(self, picked: list[int], is_draft: bool) -> Prepared | None:
        """Of those that have room for one more token, where it takes one; None if nobody is left."""
        if not is_draft:
            picked = [rid for rid in picked if self._room(rid) and self._reserve([rid], 1)]
        if not picked:
            return None
        have = [self._committed(rid) for rid in picked]
        ends = have if is_draft else [length + 1 for length in have]
        step = step_of("FROZEN_DECODE" if is_draft else "DECODE", picked, have, 1, ends, ends)
        ready = self.call(scheduled, self.rig.rows, self.allocator, [self.held[rid] for rid in picked], ends)
        return Prepared(step, is_draft, ready, self.ready_batch(step, is_draft=is_draft))

    def _admit_at(self, row: int, length: int) -> None:
        """A new request in this row, which is free; those that take the free rows before it are gone at once."""
        passed = []
        while (rid := self._take_row()) is not None and request_row(self.held[rid]) != row:
            passed.append(rid)
        for other in passed:
            self._give_back(other)
        assert rid is not None
        self._admit({rid: length})
        self.cover("row_recycled_under_prepared", rid in self.held)
