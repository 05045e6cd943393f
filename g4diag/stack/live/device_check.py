"""The page-table traps where a server really runs: on the device, inside CUDA graphs, without a host sync.

The first layer that is given a (table, pool) pair in a step launches one small kernel (`kernels/page_table_check`)
right before its attention kernel; other layers of the pair share it. Under capture the launch is captured and
replays with the graph, and judges there too what the host's traps judge where Python runs. What it finds goes to
pinned host memory, so it is read with a host load, and still after an illegal access has killed the context. With
`contain` layers are handed the kernel's copy of the table, in which ids outside the pool are the dummy page.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.model import AttentionRead, KVSlots, LayerKind, PoolView, Violation
from g4diag.stack.backends.contract import Attention, Handed, Rail
from g4diag.stack.kernels.claims import LENGTHS, REMAPPED, ROWS, SLOTS, TABLE, UNMAPPED
from g4diag.stack.live.device_boxes import Boxes, keep
from g4diag.stack.live.device_sites import (
    OUTSIDE,
    TRAP_OF,
    WRONG,
    Site,
    WriteSite,
    read_of,
    remembered_read,
    trap_of,
    violation_of,
    write_violation,
)
from g4diag.stack.live.device_writes import OF_WRITES, WriteChecks
from g4diag.stack.live.given_away import GivenAway
from g4diag.stack.live.told_batch import ToldBatches, is_part
from g4diag.stack.probes import page_table as host
from g4diag.stack.probes.handed_tables import table_hooks
from g4diag.stack.probes.kv_slots import kv_slots
from g4diag.stack.probes.pools import index_mapping
from g4diag.stack.probes.remembered import remembered
from g4diag.stack.probes.workers import Backends

ON_DEVICE = frozenset({OUTSIDE, WRONG})  # there alone
IN_GRAPHS = frozenset(TRAP_OF.values())  # on the host too, where Python runs
Rids = Mapping[int, str]


class DeviceCheck:
    """armed: names of traps; it judges those of ON_DEVICE everywhere, and in graphs those of IN_GRAPHS. contain: hand
    on sanitised copies. every: check one eager forward of so many; captured checks always run, since a graph cannot
    leave one out."""

    def __init__(
        self, backends: Backends, *, armed: frozenset[str] = ON_DEVICE, contain: bool = False, every: int = 1
    ) -> None:
        self._backends, self._armed, self._contain, self._every = backends, armed, contain, every
        self._values = bool(armed & (IN_GRAPHS | {WRONG}))
        self._boxes = Boxes()
        self._given_away = GivenAway(backends.request_rows, self._boxes, TRAP_OF[ROWS] in armed)
        self.told = ToldBatches(
            *(backends.request_rows, self._given_away.replays, self.judges_lengths, TRAP_OF[SLOTS] in armed),
            step=lambda: self._boxes.step,
        )
        self.writes = WriteChecks(backends, self._boxes, self.told, armed)
        self._pools: dict[tuple[int, int], tuple[PoolView, LayerKind | None]] = {}
        self.launched: Counter[tuple[str, str]] = Counter()  # by worker and layer kind, from Python: no graph's replays

    @property
    def launches(self) -> int:
        """Of all workers and layers, tables alone."""
        return self.launched.total()

    @property
    def judges_tables(self) -> bool:
        """Whether anything of a table is judged."""
        return bool(self._armed & (ON_DEVICE | IN_GRAPHS - OF_WRITES))

    @property
    def judges_lengths(self) -> bool:
        """Whether lengths or request rows are held against the batch's in graphs, or who of it has left matters."""
        return bool(self._armed & {TRAP_OF[LENGTHS], TRAP_OF[ROWS], TRAP_OF[UNMAPPED]})

    @property
    def judges_writes(self) -> bool:
        """Whether slots of K/V writes are judged in graphs."""
        return bool(self._armed & OF_WRITES)

    def hooks(self) -> list[Hook]:
        """Where each backend hands a layer its table, outermost: judged, and handed on, as the kernel will see it."""
        return table_hooks(self._backends, self._observed)

    def begin_step(self) -> None:
        """The scheduler starts a step."""
        self._boxes.begin_step()

    def disarm(self) -> None:
        """Nobody tells the device of batches and slots any more: what is captured must not judge them."""
        self.told.forget()
        self._backends.handed_out.forget()

    def is_silent(self) -> bool:
        """Whether `found` has nothing to say: nearly always, and asked at a fraction of its cost. Host loads only."""
        return self._given_away.is_silent and self._boxes.are_silent()

    def found(
        self, rids: Rids, *, context_is_alive: bool = True
    ) -> Iterator[tuple[Violation, AttentionRead | KVSlots]]:
        """What is new since the last call: one violation a worker and claim, and the view it is in. Host loads only,
        but for the view's own tensors, which are copied while the context is alive."""
        for claim, verdict in self._boxes.found():
            site = self._boxes.sites[verdict.site]
            if trap_of(claim, verdict) not in self._armed and not (claim == TABLE and WRONG in self._armed):
                continue
            if isinstance(site, WriteSite):
                yield write_violation(claim, site, verdict), self._write(site, context_is_alive)
                continue
            read = None
            if context_is_alive:
                with guard("copying the table of a bad read"):
                    read = self._copied(site, verdict.step, rids)
            rid = rids.get(verdict.req_row)
            read = read or remembered_read(site, verdict, rid)
            yield violation_of(claim, site, verdict, read, rid), read
        yield from self._given_away.found()

    def _observed(self, attention: Attention, backend: Any, layer: Any, forward_batch: Any, table: Any) -> Any:
        with guard("checking a page table on the device"):
            table = self._checked(attention, backend, layer, forward_batch, table)
        return table

    def _checked(self, attention: Attention, backend: Any, layer: Any, forward_batch: Any, table: Any) -> Any:
        metadata = attention.metadata(backend)
        capturing = host.is_capturing()
        place = (id(backend.token_to_kv_pool), int(layer.layer_id))
        if place not in self._pools:
            self._pools[place] = self._backends.layer_pool(backend.token_to_kv_pool, layer.layer_id)
        pool, kind = self._pools[place]
        if not capturing and attention.metadata_is_graph(backend):
            # A warm-up before capture: its metadata outlives it, so nothing of it may be remembered.
            return self._launch(attention, backend, layer, forward_batch, table, pool, kind, {})
        done = metadata.__dict__.setdefault("_g4diag_checked", {})
        # By the batch under capture: graphs of several sizes may share their metadata, and each needs its own check.
        captured = id(forward_batch) if capturing else None
        key = (_address(table), pool.name, pool.num_pages, int(layer.sliding_window_size), captured)
        if key not in done:
            if not capturing and self._boxes.step % self._every:
                return table
            done[key] = self._launch(attention, backend, layer, forward_batch, table, pool, kind, done)
        return done[key]

    def _launch(
        self,
        attention: Attention,
        backend: Any,
        layer: Any,
        forward_batch: Any,
        table: Any,
        pool: PoolView,
        kind: LayerKind | None,
        done: dict[Any, Any],
    ) -> Any:
        from g4diag.stack.kernels.page_table_check import InGraph, check_page_table

        handed = attention.handed(backend, layer, forward_batch, table)
        if handed is None:
            return table
        pool = pool.by_slot() if handed.by_slot else pool
        number = self._site(backend, layer, forward_batch, pool, kind, handed)
        site = self._boxes.sites[number]
        assert isinstance(site, Site)
        swa = pool.space.is_swa
        mapped = self._backends.mapped_pool(backend) if swa else None
        # Without the mapping nobody can say which SWA page belongs there; the bound still holds.
        site.is_compared = compare = self._values and not handed.is_bound_only and (mapped is not None or not swa)
        box, step_1 = self._boxes.of(site.worker)
        self.launched[site.worker, str(site.kind)] += 1
        handed_on = check_page_table(
            *site.tensors,
            box,
            step_1,
            site=number,
            bound=pool.num_pages,
            page_size=pool.page_size,
            window=int(layer.sliding_window_size),
            queries=site.queries,
            request_table=backend.req_to_token_pool.req_to_token if compare else None,
            mapping=None if mapped is None or not compare else mapped.full_to_swa_index_mapping,
            contain=self._contain,
            indptr_B1=handed.indptr_B1,
            clipped=handed.is_clipped,
            in_graph=InGraph(
                **self._of_graph(attention, site, forward_batch, handed, mapped if compare else None, done)
            ),
        )
        if handed_on is handed.table_BP:
            return table
        return Rail(handed.indptr_B1, handed_on) if isinstance(table, Rail) else handed_on

    def _of_graph(
        self, attention: Attention, site: Site, forward_batch: Any, handed: Handed, mapped: Any, done: dict[Any, Any]
    ) -> dict[str, Any]:
        """What else the check of a graph's table is to judge."""
        if not handed.is_graph and not host.is_capturing():
            return {}
        found: dict[str, Any] = {}
        if mapped is not None:
            found["in_window"] = TRAP_OF[UNMAPPED] in self._armed
            if TRAP_OF[REMAPPED] in self._armed:
                found["handed_out"] = self._backends.handed_out.tensor(mapped)
        if self.judges_lengths and not handed.is_bound_only and not is_part(forward_batch):
            told = self.told.of(site.worker, site.phase, forward_batch.seq_lens, slots=False)
            keys = ("keys", id(forward_batch))
            if keys not in done:  # of a verify it is a sum, on the device: once for both tables
                done[keys] = self._keys(attention, site, forward_batch, told)
            site.keys_B = done[keys]
            if site.keys_B is not None and len(site.keys_B) and not len(handed.rows_B) % len(site.keys_B):
                found |= {"keys_B": site.keys_B, "told_rows_B": None if told is None else told.rows_M}
        if host.is_capturing():
            keep(forward_batch, *found.values())
        return found

    def _keys(self, attention: Attention, site: Site, forward_batch: Any, told: Any) -> Any:
        frozen = self._backends.is_frozen(site.backend) or host.is_frozen_draft(forward_batch)
        if told is not None:
            forward_batch = copy.copy(forward_batch)
            forward_batch.seq_lens = told.lengths_M[: len(forward_batch.seq_lens)]
        return attention.keys_B(site.backend, forward_batch, frozen)

    def _site(
        self, backend: Any, layer: Any, forward_batch: Any, pool: PoolView, kind: LayerKind | None, handed: Handed
    ) -> int:
        worker, window = self._backends.worker(backend), int(layer.sliding_window_size)
        # A graph's tensors are its own for good; an eager site keeps the latest.
        mine = handed.table_BP.data_ptr() if handed.is_graph else 0
        phase = host.phase_of(forward_batch, worker)
        key = (id(backend), phase, handed.path, int(layer.layer_id), window, mine)
        site = Site(
            worker=worker,
            phase=phase,
            path=handed.path,
            backend=backend,
            layer=layer,
            kind=kind or (LayerKind.SWA if window >= 0 else LayerKind.FULL),
            window=window,
            queries=handed.queries,
            pool=pool,
            space=handed.space,
            tensors=(handed.table_BP, handed.lengths_B, handed.rows_B),
            indptr_B1=handed.indptr_B1,
            is_clipped=handed.is_clipped,
            is_bound_only=handed.is_bound_only,
        )
        return self._boxes.place(site, key)

    def _copied(self, site: Site, step: int, rids: Rids) -> AttentionRead:
        """The site's latest table as a view."""
        table, lengths, first_B = host.laid_out(site.tensors[0], site.tensors[1], site.indptr_B1, site.is_clipped)
        rows = site.tensors[2].detach().cpu().numpy().copy()
        live = min(host.real_rows(rows), len(table))
        pages = site.pool.page_size
        full = None
        if not site.is_bound_only:  # else no row of req_to_token has what belongs there in that order
            full = host.full_table(site.backend, site.tensors[2][:live], table.shape[1], pages, first_B)
        mapping = index_mapping(self._backends.mapped_pool(site.backend), pages)
        keys_B = None
        if site.keys_B is not None and len(site.keys_B):
            keys_B = site.keys_B.detach().cpu().numpy().astype(np.int64).repeat(len(rows) // len(site.keys_B))[:live]
        return read_of(
            site,
            step,
            page_table_BP=table[:live],
            seq_lens_B=lengths[:live],
            rids=tuple(rids.get(int(row), f"row{row}") for row in rows[:live]),
            req_rows_B=rows[:live].astype(np.int64),
            full_page_table_BP=full,
            first_B=None if first_B is None else first_B[:live],
            mapping=mapping,
            batch_lens_B=keys_B,
            **remembered(self._backends, site.backend, site.layer, site.pool, full, mapping),
        )

    def _write(self, site: WriteSite, context_is_alive: bool) -> KVSlots:
        written, copied = site.written, None
        if context_is_alive and written.own is not None and written.own.shape == written.slots.shape:
            with guard("copying the slots of a bad write"):
                values = (tensor.detach().cpu().numpy().astype(np.int64) for tensor in (written.slots, written.own))
                copied = kv_slots(self._backends, written, *values)
        return copied or site.view


def _address(table: Any) -> tuple[int, ...]:
    parts = table if isinstance(table, tuple) else (table,)
    return tuple(part.data_ptr() for part in parts if hasattr(part, "data_ptr"))
