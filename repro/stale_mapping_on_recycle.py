"""Recycled full slots keep the mapping of their last owner: a tail-only allocation does not clear it (#25805).

PR: sglang #25805 (2026-05-19, merged), a double free in disaggregated decode with MTP, after some 2000 requests.
`alloc_extend_swa_tail` hands out full pages for a whole prompt and SWA pages for its tail. The slots before the tail
have no SWA page, and must map to 0. Where the call leaves them alone they map to what the full page's last owner left
behind there (`free_swa_per_token` shows how that comes about), which another request has by now.

Free part of a request, allocate a prompt with a tail on what it gave back, let a third request take the SWA pages: with
the fault put back and as released; then what needs no cure, a prompt whose recycled pages were freed whole.
"""

from __future__ import annotations

import sys

from g4diag.scenario import Drive, Found
from g4diag.scenario.driving import driven

_FAULT = ("tail-alloc-keeps-stale-mapping",)


def drive(*, freed: int) -> Found:
    """freed: slots of two pages that their first owner gives back. Damaged: slots before the tail that map to an SWA
    page."""
    from g4diag.stack.drive.allocators import PAGE, extend, int64, small_allocator

    allocator = small_allocator()
    mapping = allocator.full_to_swa_index_mapping
    first = extend(allocator, 2 * PAGE)
    before = mapping[first].clone()
    allocator.free(first[:freed])
    if (
        freed % PAGE and not mapping[first].any()
    ):  # whole pages are forgotten: what else would leave a trace is not here
        allocator.set_full_to_swa_mapping(first[freed:], before[freed:])
    left = int((mapping[first] > 0).sum())
    tokens, tail = 3 * PAGE, PAGE
    slots = allocator.alloc_extend_swa_tail(int64(0), int64(0), int64(tokens), int64(tokens), int64(-1), tokens, tail)
    third = extend(allocator, 2 * PAGE)
    head = slots[:-tail]
    stale = mapping[head] > 0
    taken = sum(int(page) in set((mapping[third] // PAGE).tolist()) for page in (mapping[head][stale] // PAGE).unique())
    return Found(
        checked=len(head),
        damaged=int(stale.sum()),
        evidence={
            "slot recycled from the first owner": len(set(first.tolist()) & set(head.tolist())),
            "tail slot mapped": int((mapping[slots[-tail:]] > 0).sum()),
            **({"slot mapped while its page was free": left} if freed % PAGE else {}),
        },
        says=f"{int(stale.sum())} of {len(head)} slots before the tail map to an SWA page, {taken} of them the third's",
    )


SCENARIO = driven(
    drive,
    without_model=True,
    name="stale-mapping-on-recycle",
    symptom="assert swa_attn_allocator.available_size() <= size after thousands of requests, disaggregated with MTP",
    upstream="sglang #25805 (merged 2026-05-19)",
    drives=(
        Drive("upstream", "as released", arguments={"freed": 17}),
        Drive("faulty", "the mapping is kept", _FAULT, "mapping_follows_allocation", arguments={"freed": 17}),
        Drive("hidden", "the mapping is kept, whole pages freed", _FAULT, arguments={"freed": 32}),
        Drive("whole-pages", "as released, whole pages freed", twin=True, arguments={"freed": 32}),
    ),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
