"""Where the device says what it found: a box of pinned memory a worker, and the places that its words name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from g4diag.guard import guard
from g4diag.stack.kernels.claims import Verdict
from g4diag.stack.live.device_sites import Site, WriteSite

# What captured checks write to and read from. A graph outlives whoever was armed when it was captured.
_CAPTURED: list[Any] = []
_LOOKING = guard("looking whether the device found anything")


class Boxes:
    """step: the scheduler's, told to the device, which reads it only where something is wrong."""

    def __init__(self) -> None:
        self._boxes: dict[str, Any] = {}
        self._told: dict[tuple[str, int], int] = {}
        self._step_1: Any = None
        self._host_step: Any = None  # the same memory, for numpy, which writes to it in a fraction of torch's time
        self.sites: list[Site | WriteSite] = []
        self._number_of: dict[tuple[Any, ...], int] = {}
        self.step = 0

    def begin_step(self) -> None:
        """The scheduler starts a step."""
        self.step += 1
        if self._host_step is not None:
            self._host_step[0] = self.step

    def of(self, worker: str) -> tuple[Any, Any]:
        """(VerdictBox, the step's tensor). Made at the first check: pinning memory starts a CUDA context, which most
        processes of a server never need."""
        import torch

        from g4diag.stack.kernels.verdict import VerdictBox

        if self._step_1 is None:
            self._step_1 = torch.full((1,), self.step, dtype=torch.int64, pin_memory=torch.cuda.is_available())
            self._host_step = self._step_1.numpy()
            _CAPTURED.append(self._step_1)
        if worker not in self._boxes:
            self._boxes[worker] = VerdictBox()
            _CAPTURED.append(self._boxes[worker])
        return self._boxes[worker], self._step_1

    def place(self, site: Site | WriteSite, key: tuple[Any, ...]) -> int:
        """Keep what is checked under this key, in place of what was; its number in `sites`."""
        number = self._number_of.setdefault(key, len(self.sites))
        self.sites[number : number + 1] = [site]
        return number

    def of_phase(self, worker: str, phase: str) -> Site | None:
        """A table's place in that graph."""
        tables = (site for site in self.sites if isinstance(site, Site))
        return next((site for site in tables if (site.worker, site.phase, site.path) == (worker, phase, "graph")), None)

    def are_silent(self) -> bool:
        """Whether no box says anything at all, new or told. Host loads only."""
        with _LOOKING:
            return all(box.is_silent() for box in self._boxes.values())
        return False

    def found(self) -> Iterator[tuple[int, Verdict]]:
        """(claim, verdict) that is new since the last call: at most one a claim and worker. Host loads only."""
        for worker, box in self._boxes.items():
            for claim, verdict in box.found():
                if self._told.get((worker, claim)) != verdict.total:
                    self._told[worker, claim] = verdict.total
                    yield claim, verdict


def keep(*tensors: Any) -> None:
    """For as long as the process lives: a captured check points to them."""
    _CAPTURED.extend(tensors)
