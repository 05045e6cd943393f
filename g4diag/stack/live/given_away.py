"""Batches that a graph is about to read, of whose request rows one has been given to another since they were built.

On the host, where a batch is handed to its graph's runner: no Python runs in the replay, and the device knows no
requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from g4diag.model import AttentionRead, RowOwners, Violation
from g4diag.stack.live.device_boxes import Boxes
from g4diag.stack.live.device_sites import rows_read
from g4diag.stack.probes.request_rows import RequestRows
from g4diag.traps import request_row_is_of_its_request as trap

_MOST_KEPT = 8  # batches of one step


class GivenAway:
    """boxes: where the tables of the graphs are known. is_armed: False sees nothing."""

    def __init__(self, request_rows: RequestRows, boxes: Boxes, is_armed: bool) -> None:
        self._request_rows, self._boxes, self._is_armed = request_rows, boxes, is_armed
        self._kept: list[tuple[str, str, RowOwners]] = []

    def replays(self, worker: str, phase: str, runner: Any, forward_batch: Any, rows: tuple[int, ...]) -> None:
        """Before a replay of a batch of these rows, where any row has moved since it was built."""
        if not self._is_armed or len(self._kept) >= _MOST_KEPT:
            return
        pool = runner.model_runner.req_to_token_pool
        owners = self._request_rows.of(pool, forward_batch, np.array(rows, dtype=np.int64))
        if owners is not None and trap.given_away_B(owners, owners.rows_B).any():
            self._kept.append((worker, phase, owners))

    @property
    def is_silent(self) -> bool:
        """Whether `found` has nothing to say."""
        return not self._kept

    def found(self) -> Iterator[tuple[Violation, AttentionRead]]:
        """What is new since the last call."""
        kept, self._kept = self._kept, []
        for worker, phase, owners in kept:
            if (site := self._boxes.of_phase(worker, phase)) is not None:
                read = rows_read(site, self._boxes.step, owners)
                yield from ((violation, read) for violation in trap.judge(read))
