"""What a request holds of a server: its row, its lengths, its slots. Read and set here.

Lengths are in tokens from the request's first. Releases keep them in different places (`req`, `req.kv`), so whoever
drives requests asks here and not the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.swa_pool import int64


def has_row(req: Any) -> bool:
    """Whether it has a row of req_to_token, and so K/V."""
    return driver().held(req).req_pool_idx is not None


def request_row(req: Any) -> int:
    """Its row of req_to_token, of a request that has one."""
    return int(driver().held(req).req_pool_idx)


def kv_allocated_len(req: Any) -> int:
    """Tokens that have slots, those of drafts to come included."""
    return int(driver().held(req).kv_allocated_len)


def kv_committed_len(req: Any) -> int:
    """Tokens whose K/V counts: kv_allocated_len less what drafts may still fill."""
    return int(driver().held(req).kv_committed_len)


def protected_len(req: Any) -> int:
    """Leading tokens whose slots the prefix cache owns."""
    return int(driver().held(req).cache_protected_len)


def evicted_len(req: Any) -> int:
    """Leading tokens that the window has left behind and whose SWA slots are gone."""
    return int(driver().evicted_len(req))


def prefix_len(req: Any) -> int:
    """Leading tokens that had K/V before this prefill."""
    return int(driver().prefix_len(req))


def prefill_end(req: Any) -> int:
    """Leading tokens that have K/V after this prefill."""
    return int(driver().prefill_end(req))


def commit_verified(req: Any, accepted: int) -> None:
    """A verify's result: K/V of `accepted` more tokens counts; 0 for a request that has finished."""
    driver().SCHEDULING.commit_verified(req, accepted)


def take_row(request_pool: Any, holder: Any = None) -> Any | None:
    """A request that has a row now, or None if all are taken. holder: it, else something that holds a row as one
    does."""
    holder = driver().row_holder() if holder is None else holder
    return holder if request_pool.alloc([holder]) else None


def give_row_back(request_pool: Any, holder: Any) -> None:
    """Its row is another's next."""
    request_pool.free(holder)


def write_row(request_pool: Any, holder: Any, slots: Sequence[int]) -> None:
    """Full slots by position, from position 0, into the holder's row."""
    request_pool.write((request_row(holder), slice(0, len(slots))), int64(list(slots)).int())


def last_page_slots(request_pool: Any, req: Any, page_size: int) -> Any:
    """int64[page_size]: the full slots of the page that holds its last committed token."""
    last = int(request_pool.req_to_token[request_row(req), kv_committed_len(req) - 1])
    return int64(list(range(last // page_size * page_size, last // page_size * page_size + page_size)))
