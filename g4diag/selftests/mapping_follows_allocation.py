"""An extend leaves the last full slot that it hands out without its SWA slot."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from g4diag.hooks.install import Hook, install
from g4diag.selftests.contract import Break


def _forgetful(original: Callable[..., Any], owner: Any, *args: Any, **kwargs: Any) -> Any:
    full = original(owner, *args, **kwargs)
    owner.full_to_swa_index_mapping[full[-1]] = 0
    return full


def _drive(broken: bool) -> None:
    from g4diag.stack.drive.allocators import PAGE, extend, small_server
    from g4diag.stack.releases import current

    allocator = small_server().allocator
    hook = Hook(current().path("swa.alloc_extend"), "around", _forgetful)
    with install("selftest", [hook]) if broken else nullcontext():
        extend(allocator, 2 * PAGE)


SELFTEST = Break(
    name="mapping_follows_allocation",
    how="An extend of a hybrid SWA allocator leaves its last full slot unmapped.",
    drive=_drive,
)
