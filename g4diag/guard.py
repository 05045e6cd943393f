"""The one "log, never raise into the server".

Our own mistakes are logged and swallowed in production and re-raised under tests (an autouse fixture calls
`set_raising(True)`) or with G4DIAG_RAISE=1, so that they never hurt a server and never hide from a test.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from contextlib import ContextDecorator
from types import TracebackType

from g4diag.settings import raise_wanted

logger = logging.getLogger("g4diag")

# What torch and FlashInfer say of a device whose context an earlier kernel has killed.
_DEAD = re.compile(
    r"illegal memory access|misaligned address|device-side assert|unspecified launch failure"
    r"|\bcudaError(?:IllegalAddress|MisalignedAddress|Assert|LaunchFailure)\b"
)
_raising = False
# Tracebacks of one kind of failure in a process: a server's log is not to fill with ours.
MOST_TRACEBACKS = 3
_told: Counter[str] = Counter()


def set_raising(on: bool) -> bool:
    """Turn re-raising on or off in this process; returns what it was."""
    global _raising
    was, _raising = _raising, on
    return was


def raising() -> bool:
    """Whether an error of ours is re-raised just now."""
    return _raising or raise_wanted()


def _tell(doing: str, error: Exception) -> None:
    kind = f"{doing} {type(error).__name__}"
    _told[kind] += 1
    if _told[kind] <= MOST_TRACEBACKS:
        more = "" if _told[kind] < MOST_TRACEBACKS else "; more of this kind are not logged"
        logger.error("g4diag: %s failed, the server goes on: %s%s", doing, error, more, exc_info=error)


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
        return isinstance(error, Exception) and self.swallows(error)

    def swallows(self, error: Exception) -> bool:
        """Log it, and say that it goes no further; False where it is to be raised again. For `except Exception`, where
        a `with` costs too much: nothing is called while nothing fails."""
        if raising():
            return False
        if _DEAD.search(str(error)):
            # Not ours, and said once: the server's own report is on its way, and ours would be read in its place.
            logger.error("g4diag: %s: the device had faulted before: %s", self.doing, str(error).splitlines()[0])
        else:
            _tell(self.doing, error)
        return True
