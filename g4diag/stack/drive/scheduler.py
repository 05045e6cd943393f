"""What a scheduler has done to requests, batches and the prefix cache, an act a function.

Batches, adders and requests are sglang's own and are handed back as they are; what of theirs is called alike in every
release is called on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from g4diag.stack.drive.cache_server import CacheServer, Shape
from g4diag.stack.drive.driver import driver


def abort(req: Any) -> None:
    """It finishes when its next result is processed."""
    from sglang.srt.managers.schedule_batch import FINISH_ABORT

    req.to_finish = FINISH_ABORT()


def new_batch(shape: Shape, server: CacheServer, reqs: Sequence[Any], chunked: Any = None) -> Any:
    """A ScheduleBatch of these requests. chunked: the one of them that has chunks to come."""
    from sglang.srt.managers.schedule_batch import ScheduleBatch
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

    algorithm = SpeculativeAlgorithm.from_string("EAGLE" if shape.eagle else None)
    pools = (server.request_pool, server.allocator, server.cache, server.model_config)
    return ScheduleBatch.init_new(reqs, *pools, shape.overlap, algorithm, chunked_req=chunked)


def prefill_adder(shape: Shape, server: CacheServer, running: Any) -> Any:
    """The policy that says who is prefilled next beside the `running` batch, asked of nobody yet."""
    from sglang.srt.managers.schedule_policy import PrefillAdder

    budget = (running, shape.ratio, server.allocator.size_full, shape.chunk or None)
    return PrefillAdder(shape.page_size, server.cache, server.allocator, *budget)


def goes_on(answer: Any) -> bool:
    """Whether a PrefillAdder that gave this answer may be asked of another request."""
    from sglang.srt.managers.schedule_policy import AddReqResult

    return bool(answer == AddReqResult.CONTINUE)


def leave_out(batch: Any, reqs: Sequence[Any]) -> None:
    """Take the finished out of a batch, and these."""
    driver().SCHEDULING.leave_out(batch, reqs)


def settle(batch: Any) -> None:
    """What an iteration does to the running batch once the last prefill has joined it."""
    driver().SCHEDULING.settle(batch)


def finishing(batch: Any, queued: Sequence[Any]) -> list[Any]:
    """Of the running batch, those that sit this decode out: a result not processed yet, of the requests `queued`,
    finishes them for certain."""
    return list(driver().SCHEDULING.finishing(batch, queued))


def may_be_asked(adder: Any) -> bool:
    """Whether a PrefillAdder has any budget left to offer."""
    return bool(driver().SCHEDULING.may_be_asked(adder))


def rows_to_give(adder: Any, free: int) -> int:
    """Request rows that a prefill may take, of so many that are free."""
    return int(driver().SCHEDULING.rows_to_give(adder, free))


def prefill_in_free_group() -> bool:
    """Whether a prefill's results are processed in a free group, as a decode's are."""
    return bool(driver().SCHEDULING.PREFILL_IN_FREE_GROUP)


def retract(batch: Any, args: Any) -> tuple[list[Any], list[Any]]:
    """Make room for the next decode: (requests that lost their K/V and may come again, requests that never fit)."""
    found: tuple[list[Any], list[Any]] = driver().retract(batch, args)
    return found


def stash(req: Any, cache: Any, *, chunked: bool) -> None:
    """Share with the cache what a running request has computed. chunked: it has chunks to come."""
    driver().stash(req, cache, chunked=chunked)


def release(req: Any, cache: Any) -> None:
    """A finished request's K/V goes to the cache, its row back to the pool."""
    driver().release(req, cache)
