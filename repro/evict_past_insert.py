"""Window eviction reaches the radix insert boundary, and the leaf is inserted as if its SWA K/V were there (#22470).

PR: sglang #22470 (2026-04-09, merged). With pages larger than the window, what a finishing request is about to insert
may be evicted to its last token. The insert had no case for that: the node claims SWA K/V that has gone back to the
allocator. The next request with that prefix matches it, and its sliding layers read the dummy page in their window:
wrong answers, no fault, and a count of evictable tokens that is negative in the end.

Serve, finish and admit the same tokens again: with the fault put back and as released; then with a window that holds
two pages, where eviction stays short of the boundary and the fault does no harm.
"""

from __future__ import annotations

import sys

from g4diag.scenario import Drive, Found
from g4diag.scenario.driving import driven

_FAULT = ("eviction-reaches-insert-boundary",)
_TRAP = "matched_prefix_is_mapped + page_in_window_is_mapped"


def drive(*, window: int) -> Found:
    """window: tokens, against pages of 16."""
    from g4diag.stack.drive.prefixes import prefix_used_again

    return Found(**prefix_used_again(window=window, eagle=False, shared=48))


SCENARIO = driven(
    drive,
    name="evict-past-insert",
    symptom="wrong answers for a prefix that is served again, pages larger than the window; SWA use below 0 in the log",
    upstream="sglang #22470 (merged 2026-04-09)",
    drives=(
        Drive("upstream", "as released", arguments={"window": 8}),
        Drive("faulty", "no margin, no early return", _FAULT, _TRAP, arguments={"window": 8}),
        Drive("hidden", "the same, window of two pages", _FAULT, arguments={"window": 32}),
        Drive("large-window", "as released, window of two pages", twin=True, arguments={"window": 32}),
    ),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
