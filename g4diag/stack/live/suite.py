"""Traps over somebody else's test suite: what broke in which test, and what each trap judged in all of them.

A suite has no scheduler whose steps end, so what was put off is judged when a test ends, and what is found is kept
for whoever runs the tests: nothing is raised into the code under test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g4diag.guard import guard
from g4diag.model import Violation
from g4diag.stack.live import arming
from g4diag.stack.live.sink import Live
from g4diag.stack.live.tally import Tally


@dataclass(frozen=True)
class Broken:
    """A violation in a test, the first of its trap there. dump: written for it, None if that failed."""

    violation: Violation
    dump: Path | None


class SuiteLive(Live):
    """Counts views that could be judged, and gives up what was found since the last `taken`."""

    KEEPS = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tally = Tally(every=1)  # whether a test judged anything hangs on each view
        self._launched: Counter[str] = Counter()
        self.broken: list[Broken] = []
        self._base = self._dump_dir

    @property
    def judged(self) -> Counter[str]:
        """Views that could have broken a trap's claim, by trap."""
        found = Counter(self._launched)
        for (name, *_), count in self.tally.checks.items():
            found[name] += count
        return found

    def begin(self, folder: str) -> None:
        """Another test begins: every trap speaks anew. folder: of its dumps, below that of all."""
        self.seen.clear()
        self._next.clear()
        self._dump_dir = self._base / folder

    def taken(self) -> list[Broken]:
        """Judge what was put off; what was found since the last call."""
        self.settle()
        if (device := self.device) is not None:
            with guard("reading the device check"):
                _wait()
                self._launched |= Counter(dict.fromkeys(self.on_device, device.launches))
                for violation, read in device.found({}):
                    self._found(violation, read)
        self._pending = None
        found, self.broken = self.broken, []
        return found

    def _said(self, violation: Violation, seen: int, dump: Path | None) -> None:
        if seen == 1:
            self.broken.append(Broken(violation, dump))
        super()._said(violation, seen, dump)


def _wait() -> None:
    import torch

    torch.cuda.synchronize()


@contextmanager
def armed(names: tuple[str, ...], dumps: Path) -> Iterator[tuple[SuiteLive, arming.Armed]]:
    """These traps, for the body. PatchRefused if none of them fits."""
    with arming.armed(names, dumps, kind=SuiteLive) as on:
        assert isinstance(on.live, SuiteLive)
        yield on.live, on
