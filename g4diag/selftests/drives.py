"""What selftests drive: a small allocator of sglang's, and a frozen draft over a small server."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

from g4diag.stack.drive import swa_pool
from g4diag.stack.drive.request_state import last_page_slots
from g4diag.stack.drive.swa_pool import int64

PAGE = 4


def paged(pages: int = 8) -> Any:
    """A PagedTokenToKVPoolAllocator that stands alone, with pages of 4 slots."""
    return swa_pool.paged(pages, PAGE)


def extend(made: Any, tokens: int, have: int = 0, last: int = -1) -> Any:
    """A request's next slots: `tokens` more than the `have` it has, the last of which is `last`."""
    prefix, lens = int64([have]), int64([have + tokens])
    return made.alloc_extend(prefix, prefix, lens, lens, int64([last]), tokens)


def frozen_draft(*, apart: int = 0) -> Any:
    """A FrozenDraft over a server with two requests in it. apart: SWA pages that are taken first, so that full page
    n maps to SWA page n + apart."""
    from g4diag.stack.drive.frozen_draft import FrozenDraft
    from g4diag.stack.drive.serving import Geometry, Serving

    serving = Serving(Geometry(requests=2), seed=0)
    serving.allocator.swa_attn_allocator.alloc(apart * serving.geometry.page_size)
    draft = FrozenDraft(serving)
    for rid, ids in serving.prompts():
        serving.admit(rid, ids)
    return draft


def own_pool_draft(*, pages_of: int = 1) -> Any:
    """An OwnPoolDraft over a server with two requests that have decoded one token. pages_of: the draft's pages, in
    pages of the server's."""
    from g4diag.stack.drive.own_pool_draft import OwnPoolDraft
    from g4diag.stack.drive.serving import Geometry, Serving

    serving = Serving(Geometry(requests=2), seed=0, algorithm="EAGLE")
    args, geometry = serving.args, serving.geometry
    page_size = pages_of * geometry.page_size
    serving.args, serving.geometry = copy(args), replace(geometry, page_size=page_size)
    serving.args.page_size = page_size
    draft = OwnPoolDraft(serving)
    serving.args, serving.geometry = args, geometry
    for rid, ids in serving.prompts():
        serving.admit(rid, ids)
    serving.decode()
    return draft


def swap_last_pages(serving: Any) -> None:
    """The pages with two running requests' last tokens have each other's SWA pages from now on."""
    page_size, mapping = serving.geometry.page_size, serving.allocator.full_to_swa_index_mapping
    one, other = (last_page_slots(serving.request_pool, req, page_size) for req in serving.running.reqs)
    mapping[one], mapping[other] = mapping[other].clone(), mapping[one].clone()


def last_page(serving: Any) -> Any:
    """int64[page_size]: the full slots of the page that holds the first running request's last token."""
    return last_page_slots(serving.request_pool, serving.running.reqs[0], serving.geometry.page_size)


def write_last_token(serving: Any, *, untranslated: bool = False) -> None:
    """Zeros for K and V of that page's first token, in a sliding layer. untranslated: to its full slot."""
    layer, slot = serving.config.layer_types.index("sliding_attention"), int(last_page(serving)[0])
    heads, size = serving.config.num_key_value_heads, serving.config.head_dim
    swa_pool.write_zeros(serving.kv_pool, layer, slot, heads, size, swa_slot=slot if untranslated else None)


def change_metadata(draft: Any, change: Any) -> None:
    """Let `change` at the metadata of each eager draft step, before any layer looks at it."""
    backend = draft.backend
    honest = backend.init_forward_metadata

    def changed(forward_batch: Any) -> None:
        honest(forward_batch)
        change(backend.forward_metadata)

    backend.init_forward_metadata = changed
