"""A PrefixMatch of what a prefix cache of a hybrid SWA server has for a request's tokens.

Taken where `match_prefix` returns, which the scheduler asks for each waiting request, step after step: so at most
`PER_STEP` of them a step. Where SWA K/V is to come back from the host, a match says what will be there, and is left
out; so is a cache whose SWA slots are a ring of each request's own, or those of the full pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.model import PrefixMatch
from g4diag.stack.probes.async_copies import Arrivals
from g4diag.stack.probes.contract import Context, Probe
from g4diag.stack.releases import current

PER_STEP = 4
_TREES = ("tree.match", "tree.unified_match")


class PrefixMatchProbe:
    """sink takes each view. step_of: 0 or less where nobody counts steps yet. All are taken then, and with keeps."""

    def __init__(self, sink: Callable[[PrefixMatch], None], step_of: Callable[[], int], keeps: bool = False) -> None:
        self._sink, self._step_of, self._keeps = sink, step_of, keeps
        self._arrivals = Arrivals()
        self._step, self._taken = 0, 0

    def hooks(self) -> list[Hook]:
        """Of every tree that this release has."""
        release = current()
        return [release.hook(name, "after", self._matched) for name in _TREES if release.has(name)]

    def catch_up(self, idle: bool) -> None:
        """Judge what has arrived; fetch the rest."""
        if idle:
            self._arrivals.finish()
        else:
            self._arrivals.drain()
            self._arrivals.flush()

    def settle(self) -> None:
        """Judge all of it."""
        self._arrivals.finish()

    def _matched(self, result: Any, cache: Any, *args: Any, **kwargs: Any) -> None:
        mapping, window = _mapping(cache.token_to_kv_pool_allocator), cache.sliding_window_size
        if mapping is None or not window or result.host_hit_length or getattr(result, "swa_host_hit_length", 0):
            return
        if not self._is_due():
            return
        full = current().read.matched(cache, result)
        tokens, name = len(full), type(cache).__name__
        last = full[-window:]

        def arrived(full_N: Any, mapped_N: Any) -> None:
            with guard("judging a match"):
                self._sink(PrefixMatch(name, tokens, int(window), full_N, mapped_N))

        if tokens:
            self._arrivals.copy_mapped(last, mapping, arrived)

    def _is_due(self) -> bool:
        step = self._step_of()
        self._taken = self._taken + 1 if step == self._step else 1
        self._step = step
        return self._keeps or step <= 0 or self._taken <= PER_STEP


def _mapping(allocator: Any) -> Any:
    if getattr(allocator, "swa_req_ring", False):
        return None
    full = getattr(allocator, "full_attn_allocator", None)
    is_one = full is None or full is getattr(allocator, "swa_attn_allocator", None)
    return None if is_one else getattr(allocator, "full_to_swa_index_mapping", None)


def _make(context: Context, wanted: frozenset[type]) -> PrefixMatchProbe:
    return PrefixMatchProbe(context.sink, context.step_of, context.keeps)


PROBE = Probe("prefix_match", frozenset({PrefixMatch}), _make, of_backends=False)
