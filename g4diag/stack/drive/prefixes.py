"""What the scenarios of the radix cache share: a prefix served, evicted, inserted and used again. No scenario."""

from __future__ import annotations

from typing import Any

from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.request_state import evicted_len
from g4diag.stack.drive.serving import Geometry, Serving

PAGE = 16
_PROMPT, _DECODED = 26, 34


def prefix_used_again(*, window: int, eagle: bool, shared: int) -> dict[str, Any]:
    """Decode past several windows, finish, admit a prompt that begins with the first `shared` tokens of what there was.

    window: tokens; smaller than a page, eviction may reach what is about to be inserted. eagle: the cache's keys are
    bigrams. Keywords of a scenario's Found; damaged: slots of radix nodes that claim an SWA slot and have none."""
    geometry = Geometry(
        full_tokens=2048, ratio=0.5, page_size=PAGE, window=window, chunk=0, prompt=58, live=1, requests=1
    )
    serving = Serving(geometry, 0, bigrams=eagle)
    with driver().evict_every(1):
        serving.admit("r0", list(range(_PROMPT)))
        (req,) = serving.running.reqs
        while req.decode_batch_idx < _DECODED:
            serving.decode()
    evicted = evicted_len(req)
    known = [*req.origin_input_ids, *req.output_ids]
    serving.release(req)
    serving.admit("r1", [*known[:shared], 255, 254])
    (again,) = serving.running.reqs
    claimed = driver().claimed_slots(serving.tree_cache)
    gone = int((serving.allocator.full_to_swa_index_mapping[claimed] == 0).sum())
    reused = int(again.cached_tokens)
    return dict(
        checked=len(claimed),
        damaged=gone,
        evidence={"token evicted before the insert": evicted},
        flags={"speculative_algorithm": "EAGLE"} if eagle else {},
        says=f"{evicted} of {len(known) - 1} tokens evicted, {len(claimed)} claimed by the cache, {reused} reused; "
        f"{gone} of those claimed have no SWA slot",
    )
