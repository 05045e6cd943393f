"""Which tests go to one worker of pytest-xdist, and in what order.

The tests of a file go to the same worker: what its fixtures build is built once. Those of SPREAD share nothing that
takes long, and take long themselves: each goes by itself. FIRST take longest and go first, so that the workers end
together. Without xdist the order is the same.
"""

from __future__ import annotations

from typing import Any

import pytest

# Paths under tests/, longest first.
FIRST: tuple[str, ...] = ()
SPREAD: frozenset[str] = frozenset()


def place(item: pytest.Item) -> int:
    """Where its file goes: a sort key."""
    name = _file(item.nodeid)
    return FIRST.index(name) if name in FIRST else len(FIRST)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0].removeprefix("tests/")


def unit(nodeid: str) -> str:
    """What goes to one worker with this test."""
    name = _file(nodeid)
    return nodeid if name in SPREAD else name


def scheduler(config: pytest.Config, log: Any) -> Any:
    """One that hands out such units in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class ByUnit(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    config.option.loadscopereorder = False
    return ByUnit(config, log)
