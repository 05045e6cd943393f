"""Leak arithmetic: what a pool-leak audit prints, added up, in slots and in pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from g4diag.model.log import PoolAudit, PoolSum, Raised

# A common divisor below this is no page size that anything uses beside 1.
_SMALLEST = 8
_IDLE, _BUSY = ("idle", "check_memory"), ("busy",)


@dataclass(frozen=True)
class Leak:
    """One pool of one audit. over: slots too many; below 0: too few; 0: balanced. page_size: slots of a page, from the
    server's arguments, else the largest that divides all that is printed; 1 where neither tells. told: it is from the
    arguments. pages: whole pages of the difference, None where it is no whole number of them."""

    sum: PoolSum
    over: int
    page_size: int
    told: bool

    @property
    def pages(self) -> int | None:
        return abs(self.over) // self.page_size if self.page_size > 1 and self.over % self.page_size == 0 else None

    @property
    def is_rows(self) -> bool:
        """The pool of request rows, not of tokens."""
        return self.sum.pool == "request rows"

    def arithmetic(self) -> str:
        """As "1024 available + 199680 evictable - 204800 total = +256"."""
        terms = ("available", "evictable", "protected", "held", "uncached")
        said = " + ".join(f"{getattr(self.sum, t)} {t}" for t in terms if getattr(self.sum, t) or t == "available")
        return f"{said} - {self.sum.total} total = {self.over:+d}"

    def sentence(self) -> str:
        """What it comes to, in one sentence without an end."""
        if not self.over:
            return f"{self.sum.pool} pool: balanced ({self.arithmetic()})"
        unit = "row" if self.is_rows else "slot"
        amount = f"{abs(self.over)} {unit}{'s' if abs(self.over) > 1 else ''}"
        name = self.sum.pool if self.is_rows else f"{self.sum.pool} pool"
        way = "over" if self.over > 0 else "short"
        pages = ""
        if self.pages is not None:
            how = "" if self.told else f", if its page is {self.page_size}: every number printed is a multiple of it"
            pages = f" ({self.pages} page{'s' if self.pages > 1 else ''} of {self.page_size}{how})"
        ids = f"; leaked, as it names them: {', '.join(map(str, self.sum.leaked[:8]))}" if self.sum.leaked else ""
        return f"{name} {way} by {amount}{pages}: {self.arithmetic()}{ids}"


def leaks(audit: PoolAudit, page_size: int | None = None) -> tuple[Leak, ...]:
    """Every pool of an audit, in its order. page_size: of the server's arguments, None where they are not told."""
    return tuple(_leak(pool, page_size) for pool in audit.pools)


def _leak(pool: PoolSum, page_size: int | None) -> Leak:
    if pool.pool in ("request rows", "mamba"):
        return Leak(pool, pool.over, 1, True)
    if page_size:
        return Leak(pool, pool.over, page_size, True)
    numbers = (pool.total, pool.available, pool.evictable, pool.protected, pool.held, pool.uncached)
    common = math.gcd(*numbers)
    # A page of 2^n slots: of the divisor's power of two.
    page = common & -common
    return Leak(pool, pool.over, page if page >= _SMALLEST else 1, False)


def when_found(raised: Raised | None) -> str:
    """ "idle", "busy" or "": which check raised, by the frames of its traceback. The leak itself is earlier."""
    names = [frame.function for link in raised.chain for frame in link.frames] if raised else []
    if any(word in name for name in names for word in _BUSY):
        return "busy"
    return "idle" if any(word in name for name in names for word in _IDLE) else ""


def summary(found: Sequence[Leak]) -> str:
    """As "swa pool over by 256 slots", of those that do not balance; "" if all do."""
    return "; ".join(leak.sentence().partition(":")[0] for leak in found if leak.over)
