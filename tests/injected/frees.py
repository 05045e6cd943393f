"""Faults in what is freed and what is mapped: seen where it is freed, or where somebody reads it next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.model import FreeList, MappingUpdate, Release, View
from g4diag.stack.drive.allocators import extend
from g4diag.stack.releases import current
from tests.injected.contract import Drive, Fault
from tests.injected.server import PAGE, WINDOW, admit, last_page, serving, slots, target
from tests.injected.watching import Watched

_FREES = ("free-swa-per-token", "stale-mapping-on-recycle", "deferred-free-remap", "overallocated-tail-freed-twice")
_EVICTIONS = ("evict-past-insert", "bigram-units", "free-swa-per-token")


def _is_release(view: View) -> bool:
    return isinstance(view, Release)


def _unmapped(live: Watched, broken: bool) -> None:
    """free_swa without its filter, which upstream has: an unmapped slot is freed as SWA slot 0."""
    server = target(live)
    evicted = left_behind(server)
    live.begin()
    live.begin_step()
    allocator = server.allocator
    allocator.free_swa(evicted)
    if broken:
        allocator.swa_attn_allocator.free(allocator.full_to_swa_index_mapping[evicted])
    else:
        allocator.free_swa(evicted)
    server.decode()


def left_behind(server: Any) -> Any:
    """int64[PAGE]: slots of a page of the first request's that the window has left and that has its SWA page still."""
    for _ in range(2 * PAGE):
        held = slots(server, 0)
        pages = held[: (len(held) - WINDOW) // PAGE * PAGE].view(-1, PAGE)
        mapped = pages[server.allocator.full_to_swa_index_mapping[pages[:, 0]] > 0]
        if len(mapped):
            return mapped[-1].clone()
        server.decode()
    raise AssertionError("no page was left behind")


def _eviction(pages: int, tokens: int) -> Drive:
    """What a window leaves behind is evicted, as a scheduler does before a decode; with the fault, as if the window
    were so much shorter. The length is one at which the oldest key in the window is the last of its page."""

    def drive(live: Watched, broken: bool) -> None:
        server = serving()
        kernels = server.model.get_attention_sliding_window_size()  # keys left of the query
        live.begin_step()
        # The next query is at position `length`, and its oldest key at `length - kernels`.
        length = 4 * PAGE - 1 + kernels
        admit(server, "r0", length)
        live.begin()
        live.begin_step()
        left_of = length - kernels + (pages * PAGE + tokens if broken else 0)
        server.allocator.free_swa(slots(server, 0)[: left_of // PAGE * PAGE])
        server.decode()

    return drive


def _window_left(live: Watched, broken: bool) -> None:
    """Layers that tell the kernel a window one token shorter than the model's."""
    server = target(live)
    live.begin()
    live.begin_step()
    for layer in server.model.modules():
        if broken and getattr(layer, "sliding_window_size", -1) > 0 and hasattr(layer, "layer_id"):
            layer.sliding_window_size -= 1
    server.decode()


def _freed(which: Callable[[Any], Any]) -> Drive:
    """Slots are freed that are not the caller's to free, and both requests go on. which: of the server."""

    def drive(live: Watched, broken: bool) -> None:
        server = target(live)
        own = extend(server.allocator, PAGE)
        live.begin()
        live.begin_step()
        server.allocator.free(which(server) if broken else own)
        live.begin_step()
        server.decode()

    return drive


def _never_allocated(server: Any) -> Any:
    page = int(server.allocator.full_attn_allocator.free_pages[-1])
    first = server.request_pool.req_to_token.new_tensor(page * PAGE).long()
    return first + server.running.seq_lens.new_tensor(range(PAGE))


def _swapped(live: Watched, broken: bool) -> None:
    """The mapping of each request's last full page is the other's."""
    server = target(live)
    live.begin()
    live.begin_step()
    mapping = server.allocator.full_to_swa_index_mapping
    if broken:
        one, other = last_page(server, 0), last_page(server, 1)
        mapping[one], mapping[other] = mapping[other].clone(), mapping[one].clone()
    server.decode()


def _remapped(live: Watched, broken: bool) -> None:
    """A page is given another SWA half while its free waits for its group's end; healthy: it is freed before."""
    server = target(live)
    allocator = server.allocator
    own = extend(allocator, PAGE)
    live.begin()
    live.begin_step()
    if not broken:
        allocator.free(own)
    allocator.free_group_begin()
    if broken:
        allocator.free(own)
    allocator.set_full_to_swa_mapping(own, allocator.swa_attn_allocator.alloc(PAGE))
    allocator.free_group_end()
    server.decode()


def _waiting_by_full_slot() -> list[Hook]:
    """As 0.5.13 puts a free off: by its full slots, looked up when the group ends."""
    if current().read.regroups:
        return []

    def free(original: Callable[..., None], allocator: Any, free_index: Any) -> None:
        if allocator.free_group is None:
            original(allocator, free_index)
        else:
            allocator.free_group.append(free_index.clone())

    return [Hook(current().path("swa.free"), "around", free)]


def _put_back(live: Watched, broken: bool) -> None:
    """A page is handed out to try something, and the allocator is put back to what it was before."""
    server = target(live)
    allocator = server.allocator
    state = allocator.backup_state()
    live.begin()
    live.begin_step()
    extend(allocator, PAGE)
    allocator.restore_state(state)
    server.decode()


def _forgetting() -> list[Hook]:
    def restore(original: Callable[..., None], owner: Any, state: Any) -> None:
        owner.full_attn_allocator.restore_state(state[0])

    return [Hook(current().path("swa.restore_state"), "around", restore)]


FAULTS = (
    Fault(
        "unmapped-freed",
        "free_swa frees the SWA slot 0, which every unmapped slot maps to, as if it had been handed out.",
        _unmapped,
        shows=_is_release,
        must_not=_FREES,
    ),
    Fault(
        "window-page-short",
        "Eviction frees the SWA page that holds the oldest key of the window.",
        _eviction(1, 0),
        must_not=_EVICTIONS,
    ),
    Fault(
        "window-token-short",
        "Eviction reckons with a window of one token less, and so frees the page of its oldest key.",
        _eviction(0, 1),
        must_not=_EVICTIONS,
    ),
    Fault(
        "window-left-short",
        "Sliding layers tell the kernel a window of one token less than the model has: the oldest key is not read.",
        _window_left,
        must_not=_EVICTIONS,
    ),
    Fault(
        "never-allocated-freed",
        "A page that nobody was given is freed.",
        _freed(_never_allocated),
        shows=_is_release,
        must_not=_FREES,
    ),
    Fault(
        "anothers-freed",
        "The last full page of a running request is freed by somebody else.",
        _freed(lambda server: last_page(server, 1)),
        must_not=(*_FREES, *_EVICTIONS),
    ),
    Fault(
        "mapping-runs-swapped",
        "The mapping of two requests' last full pages is swapped: each reads the other's K/V in its sliding layers.",
        _swapped,
        must_not=_FREES,
    ),
    Fault(
        "group-looks-up-late",
        "A free that waits for its group's end looks its slots up only there, and frees what they map to by then.",
        _remapped,
        hooks=_waiting_by_full_slot,
        shows=lambda view: isinstance(view, MappingUpdate),
        must_not=("free-swa-per-token", "stale-mapping-on-recycle", "overallocated-tail-freed-twice"),
        threads=("#36646",),
    ),
    Fault(
        "restore-forgets-swa",
        "An allocator that is put back to a backup leaves its SWA side as it is: what was handed out since is lost.",
        _put_back,
        hooks=_forgetting,
        shows=lambda view: isinstance(view, FreeList),
        must_not=_FREES,
        lacks=lambda: "" if current().has("swa.restore_state") else current().lacks["swa.restore_state"],
    ),
)
