"""A server's admission, decode and retraction until a queue is served, by sglang's own policy. No scenario itself."""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.request_state import prefill_end, prefix_len
from g4diag.stack.drive.scheduler import retract
from g4diag.stack.drive.server_without_model import ServerWithoutModel
from g4diag.stack.drive.serving import Geometry

_REQUESTS, _PROMPT, _NEW_TOKENS, _WINDOW = 96, 8, 64, 16
_EVICTED = 2  # tokens at a time; a release that has a number for it has 128 for windows of 1024


@dataclass
class Served:
    """What came of a queue. steps: decodes of the batch. most: requests at once. retracted: requests, counted each
    time. again: tokens prefilled that had been computed before. full_use, swa_use: of each pool, at most, 0..1, what
    the radix cache could give up left out."""

    steps: int = 0
    finished: int = 0
    most: int = 0
    retracted: int = 0
    again: int = 0
    full_use: float = 0.0
    swa_use: float = 0.0


def serve_all(*, full: int, ratio: float) -> Served:
    """96 requests of 8 tokens, all there from the start, 64 new tokens each; window 16, pages of 1.

    full: tokens of the full pool. As a scheduler does: admit while there is room, retract if the next decode has none,
    decode, let go who has finished."""
    queue, served = _Queue(_Unpaged(full, ratio, page_size=1, window=_WINDOW, chunk=0, live=_REQUESTS), 0), Served()
    waiting = deque(queue.request(i) for i in range(_REQUESTS))
    with driver().evict_every(_EVICTED):
        while waiting or queue.requests():
            while waiting and queue.admitted(waiting[0], served):
                waiting.popleft()
            waiting.extendleft(reversed(queue.retracted(served)))
            served.most = max(served.most, len(queue.requests()))
            queue.note_use(served)
            queue.decode()
            served.steps += 1
            for req in queue.requests():
                if len(req.output_ids) >= _NEW_TOKENS:
                    queue.release(req)
                    served.finished += 1
    return served


class _Unpaged(Geometry):
    """Pages of one token, which trtllm_mha has not; here they keep the proportion of a page to the window."""

    def check(self) -> None:
        pass


class _Queue(ServerWithoutModel):
    """A server without forward: the policy looks at lengths only."""

    def _forward(self, batch: Any, hidden: str) -> Any:
        import torch

        rows = len(batch.reqs)
        return SimpleNamespace(next_token_logits=torch.zeros(rows, 1), hidden_states=torch.zeros(rows, 1))

    def request(self, i: int) -> Any:
        from sglang.srt.managers.schedule_batch import Req
        from sglang.srt.sampling.sampling_params import SamplingParams

        # Its first token is its own, so that no two share a prefix.
        ids = array("q", [i, *range(1, _PROMPT)])
        sampling = SamplingParams(max_new_tokens=_NEW_TOKENS, temperature=0)
        return Req(f"r{i}", "", ids, sampling, vocab_size=self.pair.VOCAB)

    def requests(self) -> list[Any]:
        return [] if self.running is None else list(self.running.reqs)

    def admitted(self, req: Any, served: Served) -> bool:
        """Prefill one request, new or retracted, and join it to the batch, if the policy finds room."""
        adder = self._adder()
        req.init_next_round_input(self.tree_cache)
        adder.add_one_req(req, has_chunked_req=False, truncation_align_size=None)
        if not adder.can_run_list:
            return False
        served.again += prefill_end(req) - prefix_len(req) if req.output_ids else 0
        batch = self._prefill(req, is_last=True)
        if self.requests():
            self.running.merge_batch(batch)
        else:
            self.running = batch
        return True

    def retracted(self, served: Served) -> list[Any]:
        """Requests that had to make room for the next decode."""
        if self.running.check_decode_mem():
            return []
        retracted, aborted = retract(self.running, self.args)
        assert not aborted, "the pools hold one request"
        served.retracted += len(retracted)
        return retracted

    def note_use(self, served: Served) -> None:
        pools, cache = self.allocator, self.tree_cache
        full = pools.full_available_size() + cache.full_evictable_size()
        swa = pools.swa_available_size() + cache.swa_evictable_size()
        served.full_use = max(served.full_use, 1 - full / self.geometry.full_tokens)
        served.swa_use = max(served.swa_use, 1 - swa / self.geometry.swa_tokens)
