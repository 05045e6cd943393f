"""Faults in prefix caches: tombstones that are not seen, or not made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.model import PrefixMatch, View
from g4diag.stack.drive.driver import driver
from g4diag.stack.releases import current
from tests.injected.contract import Fault
from tests.injected.server import PAGE, WINDOW, serving
from tests.injected.watching import Watched

_UNMAPPED = ("evict-past-insert", "bigram-units", "locked-prefix-freed")
LEGACY = "sglang.srt.mem_cache.swa_radix_cache.SWARadixCache"
COMPONENT = "sglang.srt.mem_cache.unified_cache.components.swa.SWAComponent"


def is_match(view: View) -> bool:
    """What a prefix cache had for a request."""
    return isinstance(view, PrefixMatch)


def python_core() -> AbstractContextManager[Any]:
    """The core whose nodes can be hooked, where a release has another."""
    from sglang.srt.environ import envs

    setting = getattr(envs, "SGLANG_UNIFIED_RADIX_TREE_CORE_BACKEND", None)
    found: AbstractContextManager[Any] = nullcontext() if setting is None else setting.override("python")
    return found


def _tombstone(live: Watched, broken: bool) -> None:
    """A request decodes until its window has left its first pages, ends, and another begins as it did."""
    with python_core():
        server = serving()
    live.begin_step()
    ids = [1 + 7 * i % 250 for i in range(PAGE + PAGE // 2)]
    with driver().evict_every(1):
        server.admit("r0", ids)
        (first,) = server.running.reqs
        for _ in range(WINDOW + 3 * PAGE):
            live.begin_step()
            server.decode()
    known = [*ids, *first.output_ids]
    server.release(first)
    live.begin()
    live.begin_step()
    # 0.5.13's cache asserts, after it has said so, that what it said can be locked.
    with suppress(AssertionError) if broken else nullcontext():
        server.admit("r1", [*known[: 2 * PAGE], 3, 2, 1])


def _blind() -> list[Hook]:
    """A match that takes a tombstone for any other node."""
    if current().has("tree.match"):

        def match(original: Callable[..., Any], cache: Any, key: Any) -> Any:
            window, cache.sliding_window_size = cache.sliding_window_size, 0
            try:
                return original(cache, key)
            finally:
                cache.sliding_window_size = window

        return [Hook(f"{LEGACY}._match_prefix_helper", "around", match)]

    def validator(original: Callable[..., Any], component: Any, *args: Any, **kwargs: Any) -> Callable[[Any], bool]:
        return lambda node: True

    return [Hook(f"{COMPONENT}.create_match_validator", "around", validator)]


FAULTS = (
    Fault(
        "tombstone-skipped",
        "A prefix match goes on over nodes that gave up their SWA K/V as if they had it.",
        _tombstone,
        hooks=_blind,
        shows=is_match,
        must_not=_UNMAPPED,
    ),
)
