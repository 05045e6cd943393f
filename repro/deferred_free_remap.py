"""A free that waits for its group's end looks the mapping up only there, and frees what was mapped since (#36135).

PR: sglang #36135 (2026-08-24, closed) for issue #36081, a one-page SWA leak in 0.5.18; cured by #36381 and #36646.
Inside a free group `free_swa` kept full slots and translated them at the end. A tombstone recovered in between gives
those slots new SWA pages: the end frees the new ones, under their owner, and nobody can reach the old ones any more.
0.5.13 frees at once, so the fault is put back into an allocator that is older than it; 0.5.23 looks the mapping up when
a free is put off, and the fault is put back into that.

Free, recover and close a group: with the fault and as released; then the same without a group, where nothing waits.
"""

from __future__ import annotations

import sys

from g4diag.scenario import Drive, Found, Where
from g4diag.scenario.driving import driven

_FAULT = ("deferred-free-reads-new-mapping",)
_TRAP = "mapping_follows_allocation"
_ALLOCATOR = "sglang.srt.mem_cache.allocator.swa.SWATokenToKVPoolAllocator"
_BY_SLOT = ((f"{_ALLOCATOR}.free_swa", "self.swa_free_group.append(self._copy_for_free_group(free_index))"),)


def drive(*, grouped: bool) -> Found:
    """grouped: the free is inside a free group. Damaged: slots that lost the SWA page they were given after it."""
    from g4diag.stack.drive.allocators import PAGE, extend, small_allocator
    from g4diag.stack.drive.swa_pool import free_pages

    allocator = small_allocator()
    slots = extend(allocator, 2 * PAGE)[:PAGE]
    before = allocator.full_to_swa_index_mapping[slots].clone()
    if grouped:
        allocator.free_group_begin()
    allocator.free_swa(slots)
    recovered = allocator.swa_attn_allocator.alloc(PAGE)
    allocator.set_full_to_swa_mapping(slots, recovered)
    if grouped:
        allocator.free_group_end()
    lost = int((allocator.full_to_swa_index_mapping[slots] != recovered).sum())
    old, new = int(before[0]) // PAGE, int(recovered[0]) // PAGE
    free = free_pages(allocator.swa_attn_allocator)
    return Found(
        checked=len(slots),
        damaged=lost,
        evidence={"slot mapped before the free": int((before > 0).sum())},
        says=f"recovered page {new} {'freed under its owner' if new in free else 'live'}; "
        f"old page {old} {'free' if old in free else 'the same' if old == new else 'lost'}",
    )


SCENARIO = driven(
    drive,
    without_model=True,
    name="deferred-free-remap",
    symptom="SWA pool off by one page after a prefix was evicted and recovered within one group of frees",
    upstream="sglang #36135, #36081 (in 0.5.18; cured by #36381, #36646)",
    drives=(
        Drive("upstream", "as released", arguments={"grouped": True}, where=(Where(_BY_SLOT, _TRAP),)),
        Drive("faulty", "free_swa deferred", _FAULT, _TRAP, arguments={"grouped": True}),
        Drive("hidden", "free_swa deferred, no group", _FAULT, arguments={"grouped": False}),
        Drive("no-group", "as released, no group", twin=True, arguments={"grouped": False}),
    ),
    since=((f"{_ALLOCATOR}.free_group_begin", "self.swa_free_group = []"),),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
