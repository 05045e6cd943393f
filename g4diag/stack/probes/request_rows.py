"""Who has which request row, and how often it was given: counted when it is given, taken when a batch is built.

Host side only: a request knows its row, and a pool hands rows out as Python numbers. Counted from when the hooks came
on; a row whose request came before is not known.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np

from g4diag.hooks.install import Hook
from g4diag.model import IntArray, RowOwners
from g4diag.stack.releases import current

_KEPT = 64  # batches; one that was built before the last so many is not known any more


@dataclass(frozen=True)
class _Row:
    """taken: how often it was given. rid: of who has it, "" for nobody. holder: that request's id()."""

    taken: int
    rid: str
    holder: int


@dataclass(frozen=True, slots=True)
class _Built:
    """What a batch was built with, a row each. moves: of rows, until then. has_rows: whether any request had one."""

    rids: tuple[str, ...]
    rows: tuple[int, ...]
    taken: tuple[int, ...]
    moves: int
    has_rows: bool


class RequestRows:
    """Of every pool of request rows, and of the last ForwardBatches that were made of a batch of requests."""

    name = "request rows"

    def __init__(self) -> None:
        self._rows: WeakKeyDictionary[Any, dict[int, _Row]] = WeakKeyDictionary()
        # By id() of the list of its requests' ids, which copies of a batch share. The list is kept, so that no other is
        # taken for it.
        self._built: OrderedDict[int, tuple[Any, _Built]] = OrderedDict()
        self._moves = 0  # rows given or taken back, by whichever pool
        self._asked: list[str] = []  # the last batch's requests, and what was built of it
        self._answer: tuple[int, _Built] | None = None
        self._told: tuple[tuple[Any, ...], Any, RowOwners] | None = None  # the last answer of `of`, and to what

    def hooks(self) -> list[Hook]:
        """Rows given, taken back and all cleared, and batches built. What was known is forgotten."""
        self._rows.clear()
        self._built.clear()
        self._answer = self._told = None
        release = current()
        return [
            release.hook("rows.alloc", "after", self._given),
            release.hook("rows.free", "before", self._given_back),
            release.hook("rows.clear", "after", self._cleared),
            release.hook("batch.built", "after", self._batch_built),
        ]

    def of(self, pool: Any, batch: Any, rows_B: IntArray) -> RowOwners | None:
        """rows_B: int64, rows of `pool` that are read for this ForwardBatch, padding left out; several in a row for
        each request where a table has so many. None for a batch that was not seen to be built, or of other rows."""
        known_list = self._built.get(id(getattr(batch, "rids", None)))
        if known_list is None or batch.batch_size < len((built := known_list[1]).rids):  # a part of one that was split
            return None
        asked = (built.rids, built.rows, built.taken, rows_B.tolist(), self._moves)
        if (known := self._told) is not None and known[0] == asked and known[1]() is pool:
            return known[2]  # the next step of the same requests, or another table of this one
        if (each := _rows_a_request(rows_B, len(built.rids))) is None:
            return None
        requests = [at // each for at in range(len(rows_B))]
        now = [self._row(pool, row) for row in rows_B.tolist()]
        told = RowOwners(
            rids=tuple([built.rids[i] for i in requests]),
            rows_B=np.array([built.rows[i] for i in requests], dtype=np.int64),
            taken_B=np.array([built.taken[i] for i in requests], dtype=np.int64),
            now_rids=tuple(["?" if row is None else row.rid for row in now]),
            now_taken_B=np.array([-1 if row is None else row.taken for row in now], dtype=np.int64),
        )
        self._told = asked, ref(pool), told
        return told

    def rows_of(self, batch: Any) -> tuple[tuple[int, ...] | None, bool]:
        """(rows, have moved). rows: those that this ForwardBatch's requests had when it was built, host numbers, -1 for
        one that had left by then; None for a batch that was not seen to be built, or of none that had any. have moved:
        whether any row, of whomever, was given or taken back since: nearly never when it is about to run."""
        known_list = self._built.get(id(getattr(batch, "rids", None)))
        if known_list is None:
            return None, False
        built = known_list[1]
        is_known = built.has_rows and batch.batch_size == len(built.rows)
        return built.rows if is_known else None, built.moves != self._moves

    def _row(self, pool: Any, row: int) -> _Row | None:
        return self._rows.get(pool, {}).get(row)

    def _given(self, result: Any, pool: Any, reqs: Any) -> None:
        if result is None:
            return
        rows = self._rows.setdefault(pool, {})
        for req in reqs:
            row = current().read.request_row(req)
            if row is None:
                continue
            held = rows.get(int(row))
            if held is None or not held.rid or held.holder != id(req):  # else a chunk of one that has its row
                taken = 1 if held is None else held.taken + 1
                self._moves += 1
                rows[int(row)] = _Row(taken, str(getattr(req, "rid", "") or "?"), id(req))

    def _given_back(self, pool: Any, req: Any) -> None:
        row, rows = current().read.request_row(req), self._rows.get(pool, {})
        if row is not None and (held := rows.get(int(row))) is not None:
            rows[int(row)] = _Row(held.taken, "", 0)
            self._moves += 1

    def _cleared(self, result: Any, pool: Any) -> None:
        rows = self._rows.get(pool, {})
        rows.update({row: _Row(held.taken, "", 0) for row, held in rows.items()})
        self._moves += 1

    def _batch_built(self, batch: Any, cls: Any, requests: Any, model_runner: Any, *args: Any, **kwargs: Any) -> None:
        reqs, listed = getattr(requests, "reqs", None), getattr(batch, "rids", None)
        if reqs and listed:
            self.built(listed, reqs, model_runner.req_to_token_pool)

    def built(self, listed: list[str], reqs: Any, pool: Any) -> None:
        """A batch of these requests was built, with rows of `pool`. listed: its list of their ids, by which it and
        copies of it are known."""
        # Most are the next step of the same requests, and nothing has moved. Their ids are compared by identity; asking
        # each request, cold in the cache by now, is what costs.
        known = self._answer
        if known is None or known[0] != id(pool) or (built := known[1]).moves != self._moves or listed != self._asked:
            row_of = current().read.request_row
            rows = tuple(-1 if (row := row_of(req)) is None else int(row) for req in reqs)
            held = [self._row(pool, row) for row in rows]
            taken = tuple(-1 if row is None or not row.rid else row.taken for row in held)
            has_rows = max(rows, default=-1) >= 0
            built = _Built(tuple(req.rid for req in reqs), rows, taken, self._moves, has_rows)
            # A row that came past our hooks may be given to another so too.
            self._asked, self._answer = list(listed), None if -1 in taken else (id(pool), built)
        self._built[id(listed)] = listed, built
        if len(self._built) > _KEPT:
            self._built.popitem(last=False)


def _rows_a_request(rows_B: IntArray, requests: int) -> int | None:
    """How many rows of the table each request has; fewer rows than requests are the first ones'. None: no such."""
    if len(rows_B) <= requests:
        return 1
    if len(rows_B) % requests:
        return None
    each = len(rows_B) // requests
    return each if (rows_B.reshape(requests, each) == rows_B[::each, None]).all() else None
