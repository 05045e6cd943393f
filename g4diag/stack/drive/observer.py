"""Watch one CPU run: every table a draft is handed, every attention output it gets, against the logical truth.

Counts what was checked, where the two index spaces diverge, and how wrong the outputs are; keeps the first bad
reads whole. The traps judge the probes' views alone: they get nothing from the reference kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from g4diag.hooks.install import Hook
from g4diag.model import (
    AttentionRead,
    Incident,
    KVWrite,
    PoolSwap,
    RequestView,
    Severity,
    View,
    Violation,
)
from g4diag.stack.drive.attention_memory import AttentionMemory
from g4diag.stack.drive.reference import LogicalKV, PagedAttention, attend
from g4diag.stack.drive.request_state import kv_committed_len, request_row
from g4diag.stack.drive.serving import Serving
from g4diag.stack.probes.contract import Context, made
from g4diag.stack.probes.pools import index_mapping, pool_views
from g4diag.stack.probes.workers import Backends


@dataclass
class Tally:
    """Counts over the draft reads of one path. Entries are live in-window page ids of the judged layers.

    errors: relative error of each row's attention output, rows that would fault left out. tokens_equal of
    tokens_compared draft tokens equal the truth's, the same rows left out; accepted: tokens that verify_steps would
    yield for them, where the pair knows what follows."""

    checked: int = 0
    divergent: int = 0
    out_of_range: int = 0
    wrong_in_range: int = 0
    largest: int = -1
    bound: int = 0
    rows_faulted: int = 0
    errors: list[float] = field(default_factory=list)
    tokens_compared: int = 0
    tokens_equal: int = 0
    verify_steps: int = 0
    accepted: int = 0

    @property
    def relative_error(self) -> float:
        """Mean over the rows that differ from the truth at all; 0.0 when none does."""
        wrong = [error for error in self.errors if error > 0]
        return float(np.mean(wrong)) if wrong else 0.0

    def add_read(self, read: AttentionRead) -> None:
        """Count one read. Divergence is between a row's full pages and their SWA pages, whichever it should hold."""
        if read.mapping is None or read.full_page_table_BP is None:
            return
        live = read.live_BP()
        expected = read.expected_BP()
        ids = read.page_table_BP[live]
        outside = (ids < 0) | (ids >= read.pool.num_pages)
        self.checked += int(live.sum())
        self.divergent += int((read.full_page_table_BP != read.mapping.swa_pages(read.full_page_table_BP))[live].sum())
        self.out_of_range += int(outside.sum())
        self.wrong_in_range += 0 if expected is None else int(((ids != expected[live]) & ~outside).sum())
        self.largest = max(self.largest, int(ids.max(initial=-1)))
        self.bound = read.pool.num_pages


# Of no allocator: no state has an allocator fault, and its probe takes a sixth of the scenario's time.
_WATCHED: frozenset[type] = frozenset({AttentionRead, PoolSwap, KVWrite})


class Probes:
    """The probes, hooked once a run and pointed at one observer after another: hooking costs more than a state."""

    def __init__(self) -> None:
        self.observer: Observer | None = None
        self.attend_prefill = AttentionMemory(attend)  # most states prefill as the one before them
        self.backends = Backends(self._on_view)
        self._all = made(Context(self.backends, self._on_view, self._rid, self._step), _WATCHED)

    def hooks(self) -> list[Hook]:
        """Every probe's hooks."""
        return [hook for probe in self._all for hook in probe.hooks()]

    def _on_view(self, view: View) -> None:
        if self.observer is not None:
            self.observer.on_view(view)

    def _rid(self, row: int) -> str:
        return "" if self.observer is None else self.observer.rid(row)

    def _step(self) -> int:
        return 0 if self.observer is None else self.observer.step


class Observer:
    """Counts and judges one state's run. judge: a view -> its violations. attend_prefill: as PagedAttention's."""

    def __init__(
        self, judge: Callable[[View], Iterable[Violation]], attend_prefill: Callable[..., torch.Tensor] = attend
    ) -> None:
        self._judge = judge
        self.tallies = {"eager": Tally(), "graph": Tally()}
        self.violations: list[Violation] = []
        self.incident: Incident | None = None
        self.peak_use = 0.0
        self.step = 0
        self._serving: Serving | None = None
        self._logical: LogicalKV | None = None
        self._current: AttentionRead | None = None
        self._path: str | None = None
        self._faulted: set[str] = set()
        self._bad_reads: list[AttentionRead] = []
        self._bad_swaps: list[PoolSwap] = []
        self._kernel = PagedAttention(attend_prefill)

    def watch(self, serving: Serving, draft_kv: LogicalKV) -> None:
        """From now on reads belong to this server; draft_kv is the truth the draft's outputs are held against."""
        self._serving, self._logical = serving, draft_kv

    @contextmanager
    def drafting(self, path: str) -> Iterator[None]:
        """The body runs one draft on `path` ("eager" or "graph"); its reads are counted there."""
        self._path, self._faulted = path, set()
        yield
        self._path = None

    def compare_tokens(self, path: str, drafted: torch.Tensor, truth: torch.Tensor) -> None:
        """drafted, truth: int64 [B, steps], rows in running order."""
        assert self._serving is not None
        sound = [i for i, req in enumerate(self._serving.running.reqs) if req.rid not in self._faulted]
        self.tallies[path].rows_faulted += len(drafted) - len(sound)
        self.tallies[path].tokens_compared += drafted[sound].numel()
        self.tallies[path].tokens_equal += int((drafted[sound] == truth[sound]).sum())
        if (accepted := getattr(self._serving.pair, "accepted", None)) is not None:
            requests = [self._serving.running.reqs[i] for i in sound]
            self.tallies[path].verify_steps += len(sound)
            self.tallies[path].accepted += sum(
                accepted(req.origin_input_ids, req.output_ids, tokens)
                for req, tokens in zip(requests, drafted[sound].tolist(), strict=True)
            )

    def note_use(self) -> None:
        """Take the SWA pool's use, 0..1, into the peak."""
        assert self._serving is not None
        allocator = self._serving.allocator
        self.peak_use = max(self.peak_use, 1.0 - allocator.swa_available_size() / allocator.size_swa)

    def decode(self, **arguments: Any) -> torch.Tensor:
        """The decode kernel's seam."""
        output: torch.Tensor = self._kernel.decode(**arguments)
        if self._path is not None and self._current is not None:
            self._compare(self._current, arguments, output)
        return output

    def prefill(self, **arguments: Any) -> torch.Tensor:
        """The prefill kernel's seam."""
        output: torch.Tensor = self._kernel.prefill(**arguments)
        return output

    def rid(self, row: int) -> str:
        """The request in this request row, "" if none."""
        return "" if self._serving is None else self._serving.rid_of.get(row, "")

    def on_swap(self, swap: PoolSwap) -> None:
        """A probe saw a pool swap."""
        found = list(self._judge(swap))
        if found and not self._bad_swaps:
            self._bad_swaps.append(swap)
        self.violations += found

    def on_view(self, view: View) -> None:
        """A probe saw something."""
        if isinstance(view, PoolSwap):
            self.on_swap(view)
        elif isinstance(view, AttentionRead):
            self.on_read(view)
        else:
            self.violations += self._judge(view)

    def on_read(self, read: AttentionRead) -> None:
        """A probe saw a page table handed to a layer."""
        self._current = read
        if self._serving is None or (read.worker == "draft" and self._path is None):
            return  # graph capture reads the padding row only; the truth reads no table
        found = [v for v in self._judge(read) if v.severity is Severity.ERROR]
        if self._path is not None and self._is_counted(read):
            self.tallies[read.path].add_read(read)
        if found:
            self._keep(read, found)
        self.violations += found

    @staticmethod
    def _is_counted(read: AttentionRead) -> bool:
        """Layers whose pages could be in either space: SWA layers, and every layer of a draft with its own pool."""
        return read.worker == "draft" and (read.expected_space.is_swa or read.pool.name == "draft-own")

    def _keep(self, read: AttentionRead, found: list[Violation]) -> None:
        """Keep the first bad read, and the first that leaves the pool: silent and loud phase."""
        loud = any(v.trap == "page_table_stays_in_pool" for v in found)
        had_loud = any(v.trap == "page_table_stays_in_pool" for v in self.violations)
        if not self._bad_reads or (loud and not had_loud):
            self._bad_reads.append(read)
            kept = [v for r in self._bad_reads for v in self._judge(r)] + [
                v for s in self._bad_swaps for v in self._judge(s)
            ]
            self.incident = self._snapshot(tuple(kept))

    def _snapshot(self, violations: tuple[Violation, ...]) -> Incident:
        assert self._serving is not None
        serving = self._serving
        page = serving.geometry.page_size
        table = serving.request_pool.req_to_token
        requests = []
        for req in serving.running.reqs:
            slots = table[request_row(req), : kv_committed_len(req) : page]
            pages = (slots // page).numpy().astype(np.int64)
            requests.append(RequestView(req.rid, request_row(req), kv_committed_len(req), pages))
        return Incident(
            origin="g4diag",
            reads=tuple(self._bad_reads),
            swaps=tuple(self._bad_swaps),
            pools=pool_views(serving.kv_pool, serving.allocator),
            mapping=index_mapping(serving.kv_pool, page),
            requests=tuple(requests),
            violations=violations,
        )

    def _compare(self, read: AttentionRead, arguments: dict[str, Any], output: torch.Tensor) -> None:
        assert self._logical is not None
        query, scale = arguments["query"], float(arguments["bmm1_scale"])
        for row, rid in enumerate(read.rids):
            if self._kernel.out_of_range_B[row]:
                self._faulted.add(rid)
                continue
            if not self._is_counted(read) or rid in self._faulted:
                continue
            seq_len = int(read.seq_lens_B[row])
            truth = self._logical.attend(rid, read.layer_id, query[row : row + 1], seq_len, scale, read.window_left)
            difference = torch.linalg.vector_norm(output[row : row + 1] - truth)
            self.tallies[read.path].errors.append(float(difference / torch.linalg.vector_norm(truth)))
