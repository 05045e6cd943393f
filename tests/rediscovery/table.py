"""The bugs that the machines must find: one row a bug, plain data. What the installed release cannot be asked is told
by name, with the reason; each machine must have a bug left to find."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis.stateful import precondition

from g4diag.fuzz.contract import Machine
from g4diag.fuzz.machines.backend_metadata import MACHINE as BACKEND
from g4diag.fuzz.machines.frozen_kv_views import MACHINE as VIEWS
from g4diag.fuzz.machines.swa_allocator import MACHINE as SWA_ALLOCATOR
from g4diag.fuzz.machines.swa_allocator import SwaAllocatorMachine
from g4diag.fuzz.machines.swa_chunk_cache import MACHINE as CHUNK
from g4diag.fuzz.machines.swa_radix_cache import MACHINE as RADIX
from g4diag.fuzz.rules import rule
from g4diag.hooks.install import Hook
from g4diag.patches.applying import patches
from g4diag.patches.contract import fit
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.swa_pool import how_it_frees, int64
from tests.rediscovery import sabotage
from tests.rediscovery.sabotage import OWNER, before_the_draft_has_its_pool, of_swa_side


@dataclass(frozen=True)
class Row:
    """bug: for the reader, with its thread. claim: the trap, or `model:<claim>`, that must name it. faults: patches
    that put it back; hooks: the same for what is no patch. cure: hooks that end it, where a release itself has it.
    environment: variables that put it back.
    absent: why there is nothing to find in the installed release, "" where there is. examples: budget. length: longest
    program it may be shrunk to; None: it is not shrunk, to save time."""

    bug: str
    machine: Machine
    claim: str
    faults: Sequence[str] = ()
    hooks: Sequence[Hook] = ()
    cure: Sequence[Hook] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    absent: Callable[[], str] = str
    examples: int = 100
    seed: int = 0
    length: int | None = 6

    @property
    def why_not(self) -> str:
        """Why the installed release cannot be asked; "" if it can."""
        for fault in self.faults:
            if (found := fit(patches()[fault])).state != "available":
                return f"{fault} is {found.state}: wanted {found.wanted}"
        return self.absent()


def _pages_are_unmapped() -> str:
    return "its frees unmap whole pages" if how_it_frees().whole_pages else ""


def _layers_have_the_caches_window() -> str:
    return "" if driver().SCHEDULING.LAYER_WINDOW_PAST_CACHE else "its layers' window is the cache's"


class FreesTokens(SwaAllocatorMachine):
    """The same allocator under a caller that frees a page's SWA slots one by one, which 0.5.13's own callers do not."""

    @precondition(lambda self: self.model.requests)
    @rule()
    def trickle(self) -> None:
        """free_swa of each slot wholly left of the windows."""
        for rid in self.live():
            upto = self.left_of_window(rid)
            for slot in self.model.evict(rid, upto) if upto > self.model.requests[rid].evicted else ():
                self.call(self.allocator.free_swa, int64([slot]))


def unmaps_pages(original: Any, allocator: Any, free_index: Any) -> None:
    """What #27779 does: the mapping is cleared for whole pages, as they are freed."""
    original(allocator, free_index)
    mapping, page = allocator.full_to_swa_index_mapping, allocator.page_size
    mapping[:-1].view(-1, page)[free_index // page] = 0


def _around(call: str, function: Any) -> tuple[Hook, ...]:
    return (Hook(f"{OWNER}.{call}", "around", function),)


UPSTREAM = (
    Row(
        "#25805: a recycled full page keeps a stale SWA mapping",
        SWA_ALLOCATOR,
        "mapping_follows_allocation",
        faults=("tail-alloc-keeps-stale-mapping",),
        absent=_pages_are_unmapped,
        examples=400,
        seed=1,
        length=None,
    ),
    Row(
        "#36135: a deferred free reads the new mapping",
        SWA_ALLOCATOR,
        "mapping_follows_allocation",
        faults=("deferred-free-reads-new-mapping",),
        examples=400,
        length=None,
    ),
    Row(
        "#27779: SWA free unmaps a token, frees a page",
        replace(SWA_ALLOCATOR, drives=FreesTokens),
        "free_of_live_only",
        cure=_around("free_swa", unmaps_pages),
        absent=_pages_are_unmapped,
        length=None,
    ),
    Row(
        "no thread: a free list that is one page too long",
        SWA_ALLOCATOR,
        "free_list_is_free",
        faults=("allocator-bound-off-by-one",),
    ),
    Row(
        "#25103: the draft's backend asks its own pool",
        BACKEND,
        "page_table_in_layer_space",
        faults=("faulty-rule",),
        seed=4,
    ),
    Row(
        "#18970: a draft with its own pool is translated",
        BACKEND,
        "page_table_in_layer_space",
        faults=("allocator-rule",),
        seed=2,
        length=None,
    ),
    Row(
        "#17630: a draft pool sized before the SWA adjustment",
        BACKEND,
        "page_table_stays_in_pool",
        faults=("draft-pool-before-swa-adjustment",),
        examples=300,
        length=None,
    ),
    Row(
        "#25103, at the views",
        VIEWS,
        "swa_state_follows_pool",
        faults=("faulty-rule",),
    ),
    Row(
        "#27789: off by one page under speculation",
        RADIX,
        "free_of_live_only",
        faults=("overallocated-tail-freed-twice",),
        examples=400,
        length=None,
    ),
    Row(
        "no thread: SGLANG_OPT_SWA_EVICT_DROP_PAGE_MARGIN=1, and a window that is a key wider than the cache's",
        CHUNK,
        "page_in_window_is_mapped",
        environment={"SGLANG_OPT_SWA_EVICT_DROP_PAGE_MARGIN": "1"},
        absent=_layers_have_the_caches_window,
        seed=2,
        length=None,
    ),
)
# A machine without a row, and why.
WITHOUT_A_BUG = {
    "attention-backends": "its bug is alive in the release itself: tests/fuzz/test_attention_backends.py finds it",
}
_NEW = "alloc_extend"
INJECTED = (
    Row(
        "free_swa leaves the mapping",
        SWA_ALLOCATOR,
        "mapping_follows_allocation",
        hooks=_around("free_swa", sabotage.keeps_mapping_on_free_swa),
        length=None,
    ),
    Row(
        "free_swa unmaps a page's first slot",
        SWA_ALLOCATOR,
        "mapping_follows_allocation",
        hooks=_around("free_swa", sabotage.clears_first_slot_only),
        length=None,
    ),
    Row(
        "alloc_extend returns the page before",
        SWA_ALLOCATOR,
        "mapping_follows_allocation",
        hooks=_around(_NEW, sabotage.hands_out_the_page_before),
        length=None,
    ),
    Row(
        "SWA pages past the pool",
        SWA_ALLOCATOR,
        "slot_inside_allocator",
        hooks=of_swa_side(_NEW, sabotage.hands_out_swa_pages_past_the_pool),
        length=None,
    ),
    Row(
        "SWA slots of the dummy page",
        SWA_ALLOCATOR,
        "slot_inside_allocator",
        hooks=of_swa_side(_NEW, sabotage.hands_out_the_dummy_page),
        length=None,
    ),
    Row(
        "a free list with a page past the pool",
        SWA_ALLOCATOR,
        "free_list_is_free",
        hooks=(Hook(f"{OWNER}.__init__", "after", sabotage.starts_with_a_page_past_the_pool),),
        length=None,
    ),
    Row(
        "free leaves the SWA side",
        SWA_ALLOCATOR,
        "mapping_follows_allocation",
        hooks=_around("free", sabotage.forgets_swa_on_free),
        seed=7,  # others come first to a free group, where it is seen as a page that is free too early
        length=None,
    ),
    Row(
        "of a free, one SWA page",
        SWA_ALLOCATOR,
        "page_is_free_or_live",
        hooks=of_swa_side("free", sabotage.frees_one_page_only),
        length=None,
    ),
    Row(
        "an eviction that is a page early",
        CHUNK,
        "page_in_window_is_mapped",
        hooks=(Hook(sabotage.EVICT, "around", sabotage.evicts_a_page_early),),
        seed=5,
        length=None,
    ),
    Row(
        "a prepared batch that keeps a request whose row is another's by now",
        BACKEND,
        "request_row_is_of_its_request",
        hooks=(Hook(sabotage.FILTER, "around", sabotage.keeps_those_who_left),),
        length=None,
    ),
    Row(
        "an EAGLE draft whose pages are twice the target's",
        BACKEND,
        "page_size_is_the_pools",
        hooks=before_the_draft_has_its_pool(sabotage.has_pages_of_twice_the_size),
        seed=1,
        length=None,
    ),
)
