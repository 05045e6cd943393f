"""All-or-nothing hooks over sglang's own HookRegistry: verified after apply, undone from a snapshot.

One dispatcher a target holds the hooks of every owner, so owners come and go in any order; when the last one leaves,
the raw attribute and all `from x import f` aliases are what they were.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType

from g4diag.guard import guard
from g4diag.hooks.aliases import one_pass
from g4diag.hooks.compose import Entry, Hook, Kind
from g4diag.hooks.dispatcher import Dispatcher, dispatcher_for

__all__ = ["Hook", "Installation", "Kind", "install"]

_LOCK = threading.RLock()


class Installation:
    """Hooks of one owner that are on. `undo()` is idempotent; as a context manager it undoes on exit."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.active = False
        self._seats: list[tuple[Dispatcher, Entry]] = []

    @property
    def targets(self) -> tuple[str, ...]:
        """Targets hooked, in the order given."""
        return tuple(entry.hook.target for _, entry in self._seats)

    def problems(self) -> list[str]:
        """Targets whose attribute is no longer ours: somebody wrapped or replaced it after us. Empty when intact."""
        found = (dispatcher.problem(entry.hook.target) for dispatcher, entry in self._seats)
        return [problem for problem in found if problem]

    def undo(self) -> None:
        """Take these hooks away; targets nobody else hooks become what they were. Never raises in production."""
        with _LOCK, one_pass():
            self.active = False
            while self._seats:
                dispatcher, entry = self._seats.pop()
                with guard(f"undoing {self.owner} on {entry.hook.target}"):
                    dispatcher.remove(entry)

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.undo()


def install(owner: str, hooks: Sequence[Hook]) -> Installation:
    """Install every hook or none. PatchRefused (wanted, found) for a target that does not fit, after undoing
    what was already done; CannotRunError without sglang."""
    installation = Installation(owner)
    with _LOCK, one_pass():
        try:
            for hook in hooks:
                entry = Entry(owner, hook)
                dispatcher = dispatcher_for(hook)
                dispatcher.add(entry)
                installation._seats.append((dispatcher, entry))
        except BaseException:
            installation.undo()
            raise
    installation.active = True
    return installation
