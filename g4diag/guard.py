"""The one "log, never raise into the server".

Our own mistakes are logged and swallowed in production and re-raised under tests (an autouse fixture calls
`set_raising(True)`) or with G4DIAG_RAISE=1, so that they never hurt a server and never hide from a test.
"""

from __future__ import annotations

import logging
from contextlib import ContextDecorator
from types import TracebackType

from g4diag.settings import raise_wanted

logger = logging.getLogger("g4diag")

_raising = False


def set_raising(on: bool) -> bool:
    """Turn re-raising on or off in this process; returns what it was."""
    global _raising
    was, _raising = _raising, on
    return was


def raising() -> bool:
    """Whether an error of ours is re-raised just now."""
    return _raising or raise_wanted()


class guard(ContextDecorator):
    """`with guard("dumping"):` or `@guard("dumping")`. A swallowed error makes a decorated function return None.

    Only Exception is swallowed: KeyboardInterrupt, SystemExit and GeneratorExit pass. Put nothing inside that is
    not ours: the server's own call belongs outside, or its exception would be lost.
    """

    def __init__(self, doing: str) -> None:
        self.doing = doing

    def __enter__(self) -> guard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or raising():
            return False
        logger.error("g4diag: %s failed, the server goes on: %s", self.doing, error, exc_info=error)
        return True
