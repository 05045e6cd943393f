"""What an injected fault declares: plain data around one drive of sglang's real classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from g4diag.hooks.install import Hook
from g4diag.model import AttentionRead, View
from tests.injected.watching import Watched

Drive = Callable[[Watched, bool], None]


def of_sliding_layer(view: View) -> bool:
    """A read of the SWA pool."""
    return isinstance(view, AttentionRead) and view.expected_space.is_swa


@dataclass(frozen=True)
class Fault:
    """name: the dump's. cause: what is broken, in one sentence. drive: healthy for False, with the fault for True.
    hooks: put under the probes for True, where the fault is in a method that probes hook too. shows: of the views of a
    run in which nothing fires, those that a dump is to hold: the last of them does. harmless: nothing reads what is
    broken, so nothing is to fire. issue: the known issue it truly is, "" for none. must_not: known issues that a reader
    could take it for and must not. threads: upstream's, where it had the bug and has fixed it. lacks: why the installed
    release has nothing to put it into, "" where it has.
    """

    name: str
    cause: str
    drive: Drive
    hooks: Callable[[], Sequence[Hook]] = tuple
    shows: Callable[[View], bool] = of_sliding_layer
    harmless: bool = False
    issue: str = ""
    must_not: tuple[str, ...] = ()
    threads: tuple[str, ...] = ()
    lacks: Callable[[], str] = str
