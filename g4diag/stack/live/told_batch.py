"""What the batch itself says, told to the device before a CUDA graph replays: its lengths, request rows and K/V slots.

A graph reads static buffers that its runner fills from the batch. Checks inside the graph that ask those buffers would
agree with a runner that did not fill them. So the batch's own are copied where it is handed to the runner, to buffers
of ours, one set a worker and phase, which captured checks are held against. A graph whose runner we do not know is
told of no batch, and judged against none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.stack.live.told_lengths import NOBODY, Lengths
from g4diag.stack.probes import page_table as host
from g4diag.stack.probes.request_rows import RequestRows
from g4diag.stack.releases import current

_ROWS, _TOKENS = 8192, 65536  # a larger batch is not told of
# Where a batch is handed to a graph runner -> the phase that its graphs were captured in, None for the batch's own.
REPLAYS = {
    "replay.target": None,
    "replay.frozen_draft": None,
    "replay.eagle_draft": None,
    "replay.eagle_extend": None,
    "replay.layers_extend": None,  # of a draft of several models, one a step: each replays over this batch
    "replay.prefill": "extend",  # for a mixed batch too
}
# Worker and phase of graphs that replay in turn: a draft's steps, and its target behind them.
_IN_TURN = frozenset({("draft", "draft_decode"), ("target", "decode"), ("target", "target_verify")})
_TELLING = guard("telling the device of a batch")


@dataclass(eq=False)
class Told:
    """lengths: of the batch, in a buffer that others may be told of theirs in. rows_M: int64, one a request of the
    batch; slots_M: int64, one a token. NOBODY past its end. rows: what rows_M was last filled with, where the host
    knows. holds_requests, holds_slots: whether any captured check is held against lengths and rows, or slots; a graph's
    are for good."""

    lengths: Lengths
    rows_M: Any
    slots_M: Any
    requests: int = 0
    tokens: int = 0
    rows: tuple[int, ...] | None = None
    holds_requests: bool = False
    holds_slots: bool = False
    _slots: Any = field(default=None, repr=False)  # the part of slots_M for so many tokens

    @property
    def lengths_M(self) -> Any:
        """int64, as rows_M."""
        return self.lengths.lengths_M

    def tell(
        self, lengths_B: Any, rows_B: Any, slots_N: Any, rows: tuple[int, ...] | None, batch: int = -1, step: int = 0
    ) -> None:
        """Without a wait, on the stream that replays; what costs is the host's time for each copy. lengths_B, slots_N:
        None where nobody judges them, no K/V is written, or the replay is of padding alone. rows: of the batch's
        requests by the host, rows_B where it does not know. batch: of how many requests it is, by default as many as it
        has lengths. step: as `Lengths.tell` has it."""
        requests = tokens = 0
        if self.holds_requests and lengths_B is not None:
            requests = lengths_B.shape[0] if batch < 0 else min(batch, lengths_B.shape[0])
        if self.holds_slots and slots_N is not None:
            tokens = slots_N.shape[0]
        if requests > _ROWS or tokens > _TOKENS:
            requests, tokens, rows = 0, 0, None
        if self.holds_requests:
            self.lengths.tell(lengths_B, requests, self, step)
        if requests and (rows is None or (rows is not self.rows and rows != self.rows) or requests != self.requests):
            self._tell_rows(requests, rows_B, rows)
        if tokens:
            if self._slots is None or self._slots.shape[0] != tokens:
                self._slots = self.slots_M[:tokens]
            self._slots.copy_(slots_N)
        if requests < self.requests:
            self.rows_M[requests : self.requests].fill_(NOBODY)
        if tokens < self.tokens:
            self.slots_M[tokens : self.tokens].fill_(NOBODY)
        self.requests, self.tokens = requests, tokens

    def _tell_rows(self, requests: int, rows_B: Any, rows: tuple[int, ...] | None) -> None:
        import torch

        # New memory each time: a copy to the device is not waited for.
        known = None if rows is None else torch.tensor(rows, dtype=torch.int64, pin_memory=self.rows_M.is_cuda)
        self.rows_M[:requests].copy_(rows_B[:requests] if known is None else known, non_blocking=True)
        self.rows = rows

    def forget(self) -> None:
        """Nothing is told of a batch."""
        self.lengths.forget()
        for tensor in (self.rows_M, self.slots_M):
            tensor.fill_(NOBODY)
        self.requests, self.tokens, self.rows = 0, 0, None


# By worker, phase and device, of this process: graphs hold them, and outlive whoever was armed when they were captured.
_BUFFERS: dict[tuple[str, str, Any], Told] = {}


def _lengths_in_turn(key: tuple[str, str, Any]) -> Lengths | None:
    """Those of another phase that replays in turn with this one, on the same device."""
    if key[:2] not in _IN_TURN:
        return None
    others = (told for other, told in _BUFFERS.items() if other[:2] in _IN_TURN and other[2] == key[2])
    return next((told.lengths for told in others), None)


def is_part(forward_batch: Any) -> bool:
    """Whether it is one half of a batch that two-batch overlap split: which rows of it are its own nobody says."""
    return getattr(forward_batch, "tbo_parent_token_range", None) is not None


class ToldBatches:
    """Of both workers. `of` makes the buffers of a phase where its graph is captured; before that nothing is told.
    request_rows: whose rows they were when a batch was built; where it knows, those are what the device is told.
    moved: called with (worker, phase, runner, batch, rows) before a replay where a row has moved since. requests,
    slots: whether an armed trap judges lengths and rows, or slots, by the batch's. step: the scheduler's, 0 where
    nobody counts them."""

    def __init__(
        self,
        request_rows: RequestRows,
        moved: Callable[[str, str, Any, Any, Any], None],
        requests: bool = True,
        slots: bool = True,
        step: Callable[[], int] = lambda: 0,
    ) -> None:
        self._request_rows, self._moved, self._requests, self._slots = request_rows, moved, requests, slots
        self._step = step
        self._is_installed = False

    def hooks(self) -> list[Hook]:
        """Where a batch is handed to a graph runner of this release, those of them that it has. Nothing is told yet."""
        release = current()
        hooks = [
            release.hook(name, "before", partial(self._replays, phase=phase))
            for name, phase in REPLAYS.items()
            if release.has(name)
        ]
        self._is_installed = bool(hooks)
        self.forget()
        return hooks

    def of(self, worker: str, phase: str, like: Any, *, requests: bool = True, slots: bool = True) -> Told | None:
        """The buffers of a worker's phase, where `like` lies, for a check of a batch's requests, or its slots, or both.
        None where this release has no place to hook, and while a graph is captured that was not warmed up: what is made
        then is only recorded."""
        import torch

        if not self._is_installed:
            return None
        key = (worker, phase, like.device)
        if key not in _BUFFERS:
            if host.is_capturing():
                return None
            untold = partial(torch.full, fill_value=NOBODY, dtype=torch.int64, device=like.device)
            with torch.inference_mode(False):  # or they could not be written to outside of it
                lengths = _lengths_in_turn(key) or Lengths(untold((_ROWS,)))
                _BUFFERS[key] = Told(lengths, untold((_ROWS,)), untold((_TOKENS,)))
        told = _BUFFERS[key]
        told.holds_requests, told.holds_slots = told.holds_requests or requests, told.holds_slots or slots
        return told

    def refused(self) -> None:
        """The hooks were not put in place."""
        self._is_installed = False

    def forget(self) -> None:
        """Batches are told of no more: what is captured judges none."""
        for told in _BUFFERS.values():
            told.forget()

    def _replays(self, runner: Any, forward_batch: Any, *args: Any, phase: str | None = None, **kwargs: Any) -> None:
        with _TELLING:
            try:
                moved = self._tell(runner, forward_batch, phase)
            except Exception:
                self.forget()  # or the graph would be judged by the batch before
                raise
            if moved is not None:
                self._moved(*moved)

    def _tell(self, runner: Any, forward_batch: Any, phase: str | None) -> tuple[str, str, Any, Any, Any] | None:
        """What `moved` is called with, if it is to be."""
        if (runners := getattr(runner, "runners", None)) is not None:  # one a step
            runner = next(each for each in runners if each is not None)
        worker = "draft" if runner.model_runner.is_draft_worker else "target"
        phase, lengths_B = phase or host.phase_of(forward_batch, worker), forward_batch.seq_lens
        if forward_batch.forward_mode.is_idle():  # any graph of the worker's may be replayed for it
            self._idles(worker)
            return None
        if (told := _BUFFERS.get((worker, phase, lengths_B.device))) is None:
            return None
        rows, have_moved = self._request_rows.rows_of(forward_batch)
        told.tell(
            lengths_B if self._requests else None,
            forward_batch.req_pool_indices,
            forward_batch.out_cache_loc if self._slots else None,
            rows,
            forward_batch.batch_size,
            self._step(),
        )
        return (worker, phase, runner, forward_batch, rows) if have_moved and rows is not None else None

    def _idles(self, worker: str) -> None:
        for (whose, _, _), told in _BUFFERS.items():
            if whose == worker:
                told.tell(None, None, None, None)
