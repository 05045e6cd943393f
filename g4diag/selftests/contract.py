"""What every selftest file declares: one upper-case SELFTEST, which breaks one trap's invariant on sglang's classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Break:
    """name: the trap's and the module's. how: what is broken, in one sentence. drive: runs sglang's own classes, all
    healthy for False, with the break in them for True. faults: patches of that kind that are on for True; with them
    the drive may be the same for both. companions: other traps that see the same break, and must. unseen: a healthy
    run shows this trap nothing at all, and that is its health."""

    name: str
    how: str
    drive: Callable[[bool], object]
    faults: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    unseen: bool = False
