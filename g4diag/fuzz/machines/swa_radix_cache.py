"""sglang's radix cache for a hybrid SWA model: prefixes shared by a tree whose nodes may have lost their SWA half, by
token or by bigram, with locks, eviction under pressure, and inserts at the end of each chunk, prefill and request.

In 0.5.13 it is SWARadixCache. In 0.5.23 it is UnifiedRadixCache with a full and an SWA component, over either of its
two tree cores: the one in Rust, which is the default, and the one in Python.
"""

from __future__ import annotations

from typing import ClassVar

from g4diag.fuzz.cache_machine import GOALS, PAGE_SIZES, books, release_goals, surroundings
from g4diag.fuzz.contract import Books, Machine, Sink
from g4diag.fuzz.tree_invariants import TreeInvariants
from g4diag.hooks.install import Hook


class SwaRadixCacheMachine(TreeInvariants):
    """The radix cache under a scheduler's calls."""

    shared: ClassVar[bool] = True


def _probes(sink: Sink, books: Books) -> list[Hook]:
    from g4diag.stack.probes.allocation import AllocationProbe
    from g4diag.stack.probes.prefix_match import PrefixMatchProbe

    matches = PrefixMatchProbe(sink, step_of=lambda: 0)
    return [*AllocationProbe(sink, stock_every=16).hooks(), *matches.hooks()]


MACHINE = Machine(
    name="swa-radix-cache",
    subject="the radix cache of a hybrid SWA model, with PrefillAdder, Req and ScheduleBatch",
    drives=SwaRadixCacheMachine,
    goals=(
        *GOALS,
        *("shared_prefix", "shared_lock", "deleted", "tombstoned", "inserted_tombstone", "recovered", "bigrams"),
    ),
    release_goals=release_goals,
    oracle=(
        *("slot_inside_allocator", "slot_has_one_owner", "page_is_handed_out_whole", "free_of_live_only"),
        *("free_list_is_free", "mapping_follows_allocation", "page_in_window_is_mapped"),
        *("mapping_is_what_was_handed_out", "request_row_is_of_its_request"),
        *("page_is_free_or_live", "matched_prefix_is_mapped"),
    ),
    probes=_probes,
    books=books,
    page_sizes=PAGE_SIZES,
    surroundings=surroundings,
)
