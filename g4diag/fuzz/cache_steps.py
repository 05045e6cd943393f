"""A scheduler's iterations over real ScheduleBatches, without its processes and without a forward.

In the order of upstream's event loop: the chunk in progress is stashed and the last prefill joins the running batch;
then a prefill if anything fits, else a decode, with retraction when there is no room; then a result is processed, of
this batch or, with overlap, of the one before. Tokens are drawn, not sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from g4diag.fuzz.machine import FuzzMachine
from g4diag.stack.drive import scheduler, spec_inputs
from g4diag.stack.drive.cache_server import DRAFT_TOKENS, CacheServer, Shape, request
from g4diag.stack.drive.request_state import (
    commit_verified,
    evicted_len,
    has_row,
    kv_allocated_len,
    kv_committed_len,
    prefill_end,
    prefix_len,
    protected_len,
)


@dataclass(frozen=True)
class Flight:
    """A launched batch. reqs: as they were then. tokens: the draws it will be processed with, by rid."""

    is_extend: bool
    reqs: tuple[Any, ...]
    tokens: dict[str, list[int]]


class CacheSteps(FuzzMachine):
    """Base of a machine with a `server`. `launched_*` are told of each batch when its forward would run."""

    shape: Shape
    server: CacheServer

    def begin(self, shape: Shape, server: CacheServer) -> None:
        """An idle scheduler."""
        self.shape, self.server = shape, server
        self.waiting: list[Any] = []
        self.reqs: dict[str, Any] = {}
        self.running: Any = scheduler.new_batch(shape, server, [])
        self.last: Any = None
        self.chunked: Any = None
        self.flight: Flight | None = None
        self.texts: list[list[int]] = []
        self.asked, self.used = 0, False

    def holders(self) -> list[Any]:
        """Requests that hold K/V."""
        return [req for req in self.reqs.values() if has_row(req)]

    def has_running(self) -> bool:
        """Whether there are `running_rids`."""
        return any(req is not self.chunked and not req.finished() for req in self._launched())

    def _launched(self) -> list[Any]:
        return [*self.running.reqs] if self.last is None else [*self.last.reqs, *self.running.reqs]

    def running_rids(self) -> list[str]:
        """Requests that decode or are about to."""
        return sorted({req.rid for req in self._launched() if req is not self.chunked and not req.finished()})

    def has_work(self) -> bool:
        """Whether the next iteration has anything to do: a request in the queue, a batch that is or was run."""
        nothing_out = self.chunked is None and self.flight is None and self.last is None
        return bool(self.waiting) or not (nothing_out and self.running.is_empty())

    def enqueue(self, tokens: list[int]) -> None:
        """A request joins the queue."""
        self.waiting.append(self.call(request, f"r{self.asked}", tokens, self.shape.new_tokens))
        self.asked += 1

    def finish_next(self, rids: list[str]) -> None:
        """These finish when their next result is processed, as an abort has it."""
        for rid in rids:
            scheduler.abort(self.reqs[rid])

    def iterate(self, token: int, accepted: int) -> bool:
        """One iteration: sampled tokens are `token`, and of a draft block `accepted` tokens are kept. False: idle."""
        self._join()
        batch = self._prefill() or self._decode()
        flight = self._launch(batch, token, accepted) if batch is not None else None
        if self.shape.overlap:
            flight, self.flight = self.flight, flight
        if flight is not None:
            self._process(flight)
        return batch is not None or flight is not None

    def _join(self) -> None:
        chunk = self.chunked
        if chunk is not None and prefill_end(chunk) > prefix_len(chunk):
            self._stash(chunk, chunked=True)
        if self.last is not None:
            self.call(scheduler.leave_out, self.last, [r for r in (chunk, self.last.chunked_req) if r])
            if not self.last.is_empty():
                if self.running.is_empty():
                    self.running = self.last
                else:
                    self.call(self.running.merge_batch, self.last)
        self.last = None
        self.call(scheduler.settle, self.running)

    def _prefill(self) -> Any:
        rows = self.server.request_pool.available_size()
        if self.chunked is None and not (self.waiting and rows):
            return None
        adder = self._filled_adder(rows)
        added = adder.can_run_list
        self.used |= bool(added)
        if not added:
            self._drop_what_never_fits()
            return None
        self.waiting = [req for req in self.waiting if req not in added]
        self.reqs.update({req.rid: req for req in added})
        if adder.new_chunked_req is not None:
            self.chunked = adder.new_chunked_req
        if self.chunked is not None:
            self.chunked.inflight_middle_chunks += 1
            self.cover("chunked")
        self.last = batch = self.call(scheduler.new_batch, self.shape, self.server, added, self.chunked)
        self.call(batch.prepare_for_extend)
        return batch

    def _filled_adder(self, rows: int) -> Any:
        adder = self.call(scheduler.prefill_adder, self.shape, self.server, self.running)
        if self.chunked is not None:
            self.call(self.chunked.init_next_round_input)
            self.chunked = self.call(adder.add_chunked_req, self.chunked)
        for req in self.waiting:
            if not scheduler.may_be_asked(adder) or len(adder.can_run_list) >= scheduler.rows_to_give(adder, rows):
                break
            self.call(req.init_next_round_input, self.server.cache)
            found = self.call(
                adder.add_one_req, req, has_chunked_req=self.chunked is not None, truncation_align_size=None
            )
            if req in adder.can_run_list:
                self.cover("shared_prefix", prefix_len(req) > 0)
                self.cover("readmitted", req.retracted_stain)
            if not scheduler.goes_on(found):
                break
        self.cover("batched_prefill", len(adder.can_run_list) > 1)
        return adder

    def _drop_what_never_fits(self) -> None:
        """The head of the queue blocks it. With nobody left to finish, it does so for good."""
        self.cover("refused")
        if self.waiting and self.chunked is None and self.running.is_empty() and self.flight is None:
            self.waiting.pop(0)

    def _decode(self) -> Any:
        batch = self.running
        ending = scheduler.finishing(batch, self.flight.reqs if self.flight is not None else ())
        self.call(scheduler.leave_out, batch, ending)
        if batch.is_empty():
            return None
        if not self.call(batch.check_decode_mem):
            if ending:
                return None  # what they hold comes back with the result in flight
            retracted, aborted = self.call(scheduler.retract, batch, self.server.args)
            self.cover("retracted", len(retracted))
            for req in (*retracted, *aborted):
                del self.reqs[req.rid]
            self.waiting += [req for req in retracted if req not in aborted]
            if batch.is_empty():
                return None
        if self.shape.eagle:
            batch.spec_info = self.call(spec_inputs.eagle_draft)
        self.call(batch.prepare_for_decode)
        batch.spec_info = None
        return batch

    def _launch(self, batch: Any, token: int, accepted: int) -> Flight:
        """Its forward runs now; what it will say is drawn already."""
        is_extend = batch is self.last
        count = accepted if self.shape.eagle and not is_extend else 1
        if is_extend:
            self.launched_extend(batch)
        else:
            self.launched_decode(batch, token, count)
        tokens = {req.rid: [token] * count for req in batch.reqs}
        if count and self.shape.eagle and not is_extend:
            batch.seq_lens = batch.seq_lens + count
            batch.seq_lens_cpu = batch.seq_lens_cpu + count
            self.cover("rejected", count < DRAFT_TOKENS)
        return Flight(is_extend, tuple(batch.reqs), tokens)

    def launched_extend(self, batch: Any) -> None:
        """A prefill's forward would run now."""

    def launched_decode(self, batch: Any, token: int, accepted: int) -> None:
        """A decode's or a verify's forward would run now."""

    def _process(self, flight: Flight) -> None:
        if flight.is_extend and not scheduler.prefill_in_free_group():
            self._process_each(flight)
            return
        self.call(self.server.allocator.free_group_begin)
        self._process_each(flight)
        self.call(self.server.allocator.free_group_end)

    def _process_each(self, flight: Flight) -> None:
        for req in flight.reqs:
            if not flight.is_extend:
                self._process_decode(req, flight.tokens[req.rid])
            elif not (req.finished() or req.is_retracted):
                self._process_extend(req, flight.tokens[req.rid])

    def _process_extend(self, req: Any, tokens: list[int]) -> None:
        if req.inflight_middle_chunks > 0:
            req.inflight_middle_chunks -= 1
            return
        req.output_ids.extend(tokens)
        self.call(req.update_finish_state)
        if req.finished():
            self._release(req)
            self.cover("finished_in_prefill")
        else:
            self._stash(req, chunked=False)

    def _process_decode(self, req: Any, tokens: list[int]) -> None:
        if req.is_retracted:
            return
        if self.shape.eagle:
            commit_verified(req, 0 if req.finished() else len(tokens))
        if req.finished():
            return
        req.output_ids.extend(tokens)
        self.call(req.update_finish_state, len(tokens))
        if req.finished():
            self._release(req)

    def _stash(self, req: Any, *, chunked: bool) -> None:
        self.call(scheduler.stash, req, self.server.cache, chunked=chunked)

    def _release(self, req: Any) -> None:
        self.cover("overallocated", kv_allocated_len(req) > kv_committed_len(req))
        self.cover("window_crossed", evicted_len(req) > protected_len(req))
        self.texts.append([*req.origin_input_ids, *req.output_ids])
        self.call(scheduler.release, req, self.server.cache)
        del self.reqs[req.rid]
        self.cover("finished")
