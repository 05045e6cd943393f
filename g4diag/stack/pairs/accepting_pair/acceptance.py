"""Accept length on the CPU: drafts of the real frozen-KV worker against the target's right continuation.

`WrongPages` stands where the attention kernel is and, for a case, swaps entries of the page tables that a draft was
handed for those of another live request: K/V that exists and is not the request's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from g4diag.errors import VacuousError
from g4diag.stack.drive import cpu
from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.reference import PagedAttention, first_key
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.pairs.accepting_pair import models, task

Case = Callable[[], AbstractContextManager[None]]
Cases = Callable[[FrozenDraft, "WrongPages"], Mapping[str, Case]]
SLIDING, FULL, BOTH = (True,), (False,), (True, False)
_SPREAD = 0.6180339887498949  # the golden ratio's: any run of pages holds its share of wrong ones


@dataclass(frozen=True)
class Accepted:
    """length: mean tokens a verify step would yield, 1 to steps + 1. drafts: verify steps it is the mean of.
    entries: page-table entries read for all drafts of the case; wrong: those swapped; outside: those past the pool."""

    length: float
    drafts: int
    entries: int
    wrong: int
    outside: int


class WrongPages(PagedAttention):
    """Paged attention over tables made wrong for the body of `reading`."""

    def __init__(self) -> None:
        super().__init__()
        self._is_wrong: Callable[[bool, int, int], bool] | None = None
        self.wrong = self.outside = 0

    @contextmanager
    def reading(self, kinds: tuple[bool, ...], *, share: float = 1.0, newest: int | None = None) -> Iterator[None]:
        """Have reads of these kinds of layers (sliding or not) go wrong: in a share of the pages, the same ones at
        every step, or in one page, counted back from the newest."""

        def is_wrong(sliding: bool, column: int, age: int) -> bool:
            chosen = (column + 1) * _SPREAD % 1 < share if newest is None else age == newest
            return sliding in kinds and chosen

        self._is_wrong = is_wrong
        try:
            yield
        finally:
            self._is_wrong = None

    def decode(self, *, query: Any, kv_cache: Any, block_tables: Any, seq_lens: Any, **arguments: Any) -> Any:
        if self._is_wrong is not None:
            window = int(arguments["window_left"])
            block_tables = self._swapped(block_tables, seq_lens.tolist(), window, kv_cache[0].shape[2])
        return super().decode(query=query, kv_cache=kv_cache, block_tables=block_tables, seq_lens=seq_lens, **arguments)

    def _swapped(self, tables_BP: torch.Tensor, seq_lens: list[int], window: int, page_size: int) -> torch.Tensor:
        assert self._is_wrong is not None
        if len(seq_lens) < 2:
            raise VacuousError("one live request: there is no other one's K/V to read")
        swapped = tables_BP.clone()
        last = [(seq_len - 1) // page_size for seq_len in seq_lens]
        for row, seq_len in enumerate(seq_lens):
            other = (row + 1) % len(seq_lens)
            for column in range(first_key(seq_len, 1, window) // page_size, last[row] + 1):
                age = last[row] - column
                if self._is_wrong(window >= 0, column, age):
                    swapped[row, column] = tables_BP[other, max(0, last[other] - age)]
                    self.wrong += 1
        return swapped


def accept_lengths(
    geometry: Geometry, seed: int, cases: Cases, *, path: str = "eager", pair: Any = models
) -> dict[str, Accepted]:
    """Serve the geometry's prompts, the last `live` of them together for all their new tokens; draft at every one, in
    every case. Requests before those come and go, and leave a pool in which full and SWA pages differ.

    cases: what to put around a draft, by name, made for this run. path: "eager" or "graph". pair: as in `Serving`.
    Raises VacuousError when the target leaves the task.
    """
    pages = WrongPages()
    with cpu.attention_kernels(pages.decode, pages.prefill):
        serving = Serving(geometry, seed, pair=pair)
        draft = FrozenDraft(serving, layers=4)
        prompts = dict(serving.prompts())
        _fill(serving, prompts)
        tallies = {name: _Tally(case) for name, case in cases(draft, pages).items()}
        for _ in range(geometry.new_tokens - 1):
            for tally in tallies.values():
                tally.take(getattr(draft, path), pages)
            serving.decode()
        steps = geometry.draft_steps
        right = [_right(prompts[req.rid], list(req.output_ids), steps) for req in serving.running.reqs]
    return {name: tally.walked(right) for name, tally in tallies.items()}


def _fill(serving: Serving, prompts: Mapping[str, list[int]]) -> None:
    for rid, ids in prompts.items():
        while serving.running is not None and len(serving.running.reqs) >= serving.geometry.live:
            serving.release(serving.running.reqs[0])
        if not serving.admit(rid, ids):
            raise VacuousError(f"{rid} found no room: a smaller batch or a larger pool is needed")


def _right(prompt: list[int], answered: list[int], more: int) -> list[int]:
    right = task.continued(prompt, len(answered) + more)
    if right[: len(answered)] != answered:
        raise VacuousError("the target does not continue the task, so an accept length says nothing of the draft")
    return right


class _Tally:
    """One case's drafts, by token and request, and the table entries read for them."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.drafted: list[list[list[int]]] = []
        self.entries = self.wrong = self.outside = 0

    def take(self, draft: Callable[[], torch.Tensor], pages: WrongPages) -> None:
        before = pages.entries, pages.wrong, pages.outside
        with self.case():
            self.drafted.append(draft().tolist())
        self.entries += pages.entries - before[0]
        self.wrong += pages.wrong - before[1]
        self.outside += pages.outside - before[2]

    def walked(self, right: list[list[int]]) -> Accepted:
        """As a server would: the next draft starts where the last verify ended."""
        lengths = []
        for row, tokens in enumerate(right):
            at = 0
            while at < len(self.drafted):
                drafted = self.drafted[at][row]
                lengths.append(task.accepted(drafted, tokens[at + 1 : at + 1 + len(drafted)]))
                at += lengths[-1]
        return Accepted(sum(lengths) / len(lengths), len(lengths), self.entries, self.wrong, self.outside)


@contextmanager
def without_layer(draft: FrozenDraft, index: int) -> Iterator[None]:
    """The assistant with one layer's attention adding nothing."""
    with _zeroed(_model(draft).model.layers[index].post_attention_layernorm.weight, slice(None)):
        yield


@contextmanager
def without_hidden(draft: FrozenDraft) -> Iterator[None]:
    """The assistant with its recurrent hidden cut off."""
    weight = _model(draft).pre_projection.weight
    with _zeroed(weight, (slice(None), slice(weight.shape[1] // 2, None))):
        yield


def _model(draft: FrozenDraft) -> Any:
    return draft.worker.draft_model_runner.model


@contextmanager
def _zeroed(weight: torch.Tensor, part: Any) -> Iterator[None]:
    kept = weight.data.clone()
    weight.data[part] = 0.0
    try:
        yield
    finally:
        weight.data.copy_(kept)
