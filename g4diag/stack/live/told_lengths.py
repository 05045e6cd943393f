"""A batch's lengths on the device, where captured checks read them: one buffer for graphs that replay in turn.

A draft's steps and the verify behind it are built of one tensor of lengths, and each waits for the other's result. So
they share a buffer, and what the draft was told is not copied again for its target, while nobody has written to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NOBODY = -1  # a row or token of which the batch does not tell: padding, and all of them while a graph is captured


@dataclass
class Lengths:
    """lengths_M: int64, one a request of the batch that was told last, NOBODY past its end."""

    lengths_M: Any
    requests: int = 0
    _place: Any = None  # the part of lengths_M for so many requests
    _source: Any = None  # what was copied last; kept, so that no other tensor is taken for it
    _known: tuple[int, int] = (0, 0)  # its version, and the scheduler's step
    _teller: Any = None

    def tell(self, lengths_B: Any, requests: int, teller: Any, step: int) -> None:
        """The first `requests` of lengths_B; None for none. teller: for whose replay. step: the scheduler's, 0 where
        nobody counts them. One copy on the stream that replays, or none where another teller was told the same tensor
        in this step: torch counts what is written to it."""
        if requests:
            if not self._is_there(lengths_B, requests, teller, step):
                self._copy(lengths_B, requests)
                # In inference mode nobody counts.
                self._source = lengths_B if step and not lengths_B.is_inference() else None
                self._known = (0 if self._source is None else lengths_B._version, step)
                self._teller = teller
        else:
            self._source = None
        if requests < self.requests:
            self.lengths_M[requests : self.requests].fill_(NOBODY)
        self.requests = requests

    def forget(self) -> None:
        """Nothing is told of a batch."""
        self.lengths_M.fill_(NOBODY)
        self.requests, self._source = 0, None

    def _is_there(self, lengths_B: Any, requests: int, teller: Any, step: int) -> bool:
        return (
            lengths_B is self._source
            and teller is not self._teller
            and requests == self.requests
            and self._known == (lengths_B._version, step)
        )

    def _copy(self, lengths_B: Any, requests: int) -> None:
        # By its own size: a copy that raised has left another one than that of the batch before.
        if self._place is None or self._place.shape[0] != requests:
            self._place = self.lengths_M[:requests]
        self._place.copy_(lengths_B if lengths_B.shape[0] == requests else lengths_B[:requests])
