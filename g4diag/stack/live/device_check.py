"""The page-table traps where a server really runs: on the device, inside CUDA graphs, without a host sync.

The first layer that is given a (table, pool) pair in a step launches one small kernel (`kernels/page_table_check`)
right before its attention kernel; other layers of the pair share it. Under capture the launch is captured and
replays with the graph. What it finds goes to pinned host memory, one box a worker, so it is read with a host load,
and still after an illegal access has killed the context. With `contain` layers are handed the kernel's copy of the
table, in which ids outside the pool are the dummy page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.model import AttentionRead, IndexSpace, LayerKind, PoolView, Severity, Violation
from g4diag.stack.backends.contract import Attention, Handed, Rail
from g4diag.stack.probes import page_table as host
from g4diag.stack.probes.handed_tables import table_hooks
from g4diag.stack.probes.pools import index_mapping
from g4diag.stack.probes.workers import Backends
from g4diag.traps.reads import violation_in

OUTSIDE, WRONG = "page_table_stays_in_pool", "page_table_in_layer_space"
ON_DEVICE = frozenset({OUTSIDE, WRONG})
Rids = Mapping[int, str]


@dataclass
class Site:
    """One place a table is checked. tensors: the latest (table, lengths, request rows) seen there, on the device.
    is_compared: ids are held against those of the request table, not the bound alone."""

    worker: str
    phase: str
    path: str
    backend: Any
    layer_id: int
    kind: LayerKind
    window: int
    queries: int
    pool: PoolView
    space: IndexSpace | None
    tensors: tuple[Any, Any, Any]
    indptr_B1: Any = None
    is_clipped: bool = False
    is_bound_only: bool = False
    is_compared: bool = True


class DeviceCheck:
    """contain: hand on sanitised copies. values: also compare ids with the request table. every: check one eager
    forward of so many; captured checks always run, since a graph cannot leave one out."""

    def __init__(self, backends: Backends, *, contain: bool = False, values: bool = True, every: int = 1) -> None:
        self._backends, self._contain, self._values, self._every = backends, contain, values, every
        self._boxes: dict[str, Any] = {}
        self._sites: list[Site] = []
        self._site_of: dict[tuple[Any, ...], int] = {}
        self._told: dict[str, int] = {}
        self._pools: dict[tuple[int, int], tuple[PoolView, LayerKind | None]] = {}
        self._step_1: Any = None
        self.launched: Counter[tuple[str, str]] = Counter()  # by worker and layer kind, from Python: no graph's replays
        self.step = 0

    @property
    def launches(self) -> int:
        """Of all workers and layers."""
        return self.launched.total()

    def hooks(self) -> list[Hook]:
        """Where each backend hands a layer its table, outermost: judged, and handed on, as the kernel will see it."""
        return table_hooks(self._backends, self._observed)

    def begin_step(self) -> None:
        """The scheduler starts a step. The device reads the number only where something is wrong."""
        self.step += 1
        if self._step_1 is not None:
            self._step_1[0] = self.step

    def found(self, rids: Rids, *, context_is_alive: bool = True) -> Iterator[tuple[Violation, AttentionRead]]:
        """What is new since the last call: one violation a worker, and the read it is in. Host loads only, but for
        the read's own table, which is copied while the context is alive."""
        for worker, box in self._boxes.items():
            verdict = box.read()
            if verdict is None or self._told.get(worker) == verdict.outside + verdict.wrong:
                continue
            self._told[worker] = verdict.outside + verdict.wrong
            site = self._sites[verdict.site]
            read = None
            if context_is_alive:
                with guard("copying the table of a bad read"):
                    read = self._copied(site, verdict.step, rids)
            rid = rids.get(verdict.req_row)
            read = read or _remembered(site, verdict, rid)
            yield _violation(site, verdict, read, rid), read

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
            return self._launch(attention, backend, layer, forward_batch, table, pool, kind)
        done = metadata.__dict__.setdefault("_g4diag_checked", {})
        key = (_address(table), pool.name, pool.num_pages, int(layer.sliding_window_size), capturing)
        if key not in done:
            if not capturing and self.step % self._every:
                return table
            done[key] = self._launch(attention, backend, layer, forward_batch, table, pool, kind)
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
    ) -> Any:
        from g4diag.stack.kernels.page_table_check import check_page_table

        handed = attention.handed(backend, layer, forward_batch, table)
        if handed is None:
            return table
        pool = pool.by_slot() if handed.by_slot else pool
        site = self._site(backend, layer, forward_batch, pool, kind, handed)
        swa = pool.space.is_swa
        mapped = self._backends.mapped_pool(backend) if swa else None
        # Without the mapping nobody can say which SWA page belongs there; the bound still holds.
        compare = self._values and not handed.is_bound_only and (mapped is not None or not swa)
        self._sites[site].is_compared = compare
        box = self._box(self._sites[site].worker)
        self.launched[self._sites[site].worker, str(self._sites[site].kind)] += 1
        handed_on = check_page_table(
            *self._sites[site].tensors,
            box,
            self._step_1,
            site=site,
            bound=pool.num_pages,
            page_size=pool.page_size,
            window=int(layer.sliding_window_size),
            queries=self._sites[site].queries,
            request_table=backend.req_to_token_pool.req_to_token if compare else None,
            mapping=None if mapped is None or not compare else mapped.full_to_swa_index_mapping,
            contain=self._contain,
            indptr_B1=handed.indptr_B1,
            clipped=handed.is_clipped,
        )
        if handed_on is handed.table_BP:
            return table
        return Rail(handed.indptr_B1, handed_on) if isinstance(table, Rail) else handed_on

    def _box(self, worker: str) -> Any:
        # Made at the first check: pinning memory starts a CUDA context, which most processes of a server never need.
        import torch

        from g4diag.stack.kernels.page_table_check import VerdictBox

        if self._step_1 is None:
            self._step_1 = torch.full((1,), self.step, dtype=torch.int64, pin_memory=torch.cuda.is_available())
        if worker not in self._boxes:
            self._boxes[worker] = VerdictBox()
        return self._boxes[worker]

    def _site(
        self, backend: Any, layer: Any, forward_batch: Any, pool: PoolView, kind: LayerKind | None, handed: Handed
    ) -> int:
        worker, window = self._backends.worker(backend), int(layer.sliding_window_size)
        # A graph's tensors are its own for good; an eager site keeps the latest.
        mine = handed.table_BP.data_ptr() if handed.is_graph else 0
        phase = host.phase_of(forward_batch, worker)
        key = (id(backend), phase, handed.path, int(layer.layer_id), window, mine)
        index = self._site_of.setdefault(key, len(self._sites))
        site = Site(
            worker=worker,
            phase=phase,
            path=handed.path,
            backend=backend,
            layer_id=int(layer.layer_id),
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
        self._sites[index : index + 1] = [site]
        return index

    def _copied(self, site: Site, step: int, rids: Rids) -> AttentionRead:
        """The site's latest table as a view."""
        table, lengths, first_B = host.laid_out(site.tensors[0], site.tensors[1], site.indptr_B1, site.is_clipped)
        rows = site.tensors[2].detach().cpu().numpy().copy()
        live = min(host.real_rows(rows), len(table))
        pages = site.pool.page_size
        full = None
        if not site.is_bound_only:  # else no row of req_to_token has what belongs there in that order
            full = host.full_table(site.backend, site.tensors[2][:live], table.shape[1], pages, first_B)
        return _read(
            site,
            step,
            page_table_BP=table[:live],
            seq_lens_B=lengths[:live],
            rids=tuple(rids.get(int(row), f"row{row}") for row in rows[:live]),
            req_rows_B=rows[:live].astype(np.int64),
            full_page_table_BP=full,
            first_B=None if first_B is None else first_B[:live],
            mapping=index_mapping(self._backends.mapped_pool(site.backend), pages),
        )


def _address(table: Any) -> tuple[int, ...]:
    parts = table if isinstance(table, tuple) else (table,)
    return tuple(part.data_ptr() for part in parts if hasattr(part, "data_ptr"))


def _read(site: Site, step: int, **arrays: Any) -> AttentionRead:
    return AttentionRead(
        step=step,
        worker=site.worker,
        phase=site.phase,
        path=site.path,
        backend=type(site.backend).__name__,
        layer_id=site.layer_id,
        layer_kind=site.kind,
        window_left=site.window,
        pool=site.pool,
        table_space=site.space,
        q_len=site.queries,
        **arrays,
    )


def _remembered(site: Site, verdict: Any, rid: str | None) -> AttentionRead:
    """The read as far as the verdict alone tells: the bad entry in its place, every other entry the dummy page, and
    other rows empty. All that is left of it when the context is dead."""
    table = np.zeros((verdict.row + 1, verdict.column + 1), dtype=np.int32)
    table[verdict.row, verdict.column] = verdict.value
    lengths = np.zeros(verdict.row + 1, dtype=np.int32)
    lengths[verdict.row] = verdict.seq_len
    rids = ("",) * verdict.row + (rid or f"row{verdict.req_row}",)
    return _read(site, verdict.step, page_table_BP=table, seq_lens_B=lengths, rids=rids)


def _violation(site: Site, verdict: Any, read: AttentionRead, rid: str | None) -> Violation:
    outside = not 0 <= verdict.value < verdict.bound
    unit = site.pool.space.unit
    said = (
        f"{unit} {verdict.value} is outside the {site.pool.name} pool of {verdict.bound} {unit}s"
        if outside
        else f"{unit} {verdict.value} is not this request's: {site.pool.space} {verdict.expected} belongs there"
    )
    placed = violation_in(
        read,
        OUTSIDE if outside else WRONG,
        Severity.ERROR,
        f"{said} (device check)",
        row=verdict.row,
        count=verdict.outside if outside else verdict.wrong,
        checked=0,
        column=verdict.column,
        value=verdict.value,
        expected=verdict.expected if site.is_compared else None,
        bound=verdict.bound,
        value_space=site.space,
        expected_space=site.pool.space,
    )
    # The verdict's own request: the copied table may be a later batch's.
    return replace(placed, rid=rid or f"row{verdict.req_row}")
