"""The eviction frontier is a length in tokens, the radix key of an EAGLE server one in bigrams (#34823).

PR: sglang #34823 (2026-08-14, merged) and its root cure #34870. In the unified radix cache the one was subtracted from
the other, came out negative, and a leaf of which part was evicted became neither a tombstone nor two nodes. The cache
then claims SWA K/V that has gone back to the allocator: `pool memory leak detected`, and a request that shares the
evicted part reads the dummy page in its window.

0.5.13 serves Gemma-4 from `SWARadixCache`, which subtracts lengths of one kind; the outcome is put back there, and in
the unified cache of 0.5.23. Serve, finish, and admit a prompt that ends inside the evicted part: with the fault and as
released; then with keys in tokens, where the same fault has nothing to confuse.
"""

from __future__ import annotations

import sys

from g4diag.scenario import Drive, Found
from g4diag.scenario.driving import driven

_FAULT = ("bigram-key-loses-frontier",)
_TRAP = "matched_prefix_is_mapped + page_in_window_is_mapped"
_SERVED_FROM = "sglang.srt.mem_cache.registry"


def drive(*, eagle: bool) -> Found:
    """eagle: keys are bigrams."""
    from g4diag.stack.drive.prefixes import prefix_used_again

    return Found(**prefix_used_again(window=8, eagle=eagle, shared=33))


SCENARIO = driven(
    drive,
    name="bigram-units",
    symptom="pool memory leak detected, or wrong answers for a shared prefix, under EAGLE with the radix cache",
    upstream="sglang #34823 (merged 2026-08-14), #34870; not in 0.5.13's SWARadixCache",
    drives=(
        Drive("upstream", "as released", arguments={"eagle": True}),
        Drive("faulty", "the frontier is lost", _FAULT, _TRAP, arguments={"eagle": True}),
        Drive("hidden", "the same, keys in tokens", _FAULT, arguments={"eagle": False}),
        Drive("tokens", "as released, keys in tokens", twin=True, arguments={"eagle": False}),
    ),
    before=((_SERVED_FROM, "return SWARadixCache(params=params)"),),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
