"""Host copies of device tensors without a sync: asked for now, used in the order they were asked for, once there.

On a GPU a copy goes to pinned memory behind the work already on the stream, and whoever waits for it is called when a
later copy is asked for and finds its event passed. On the CPU it is used at once. Order is kept either way, so that a
book of what is live can be kept from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

_LONGEST = 1024  # entries waiting before the oldest is waited for; a server never gets there unless its GPU hangs


class Arrivals:
    """`copy(tensors, then)`: `then` is called with one int64 array a tensor, each its own memory."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Any, list[Any], Callable[..., None]]] = deque()

    def copy(self, tensors: Sequence[Any], then: Callable[..., None]) -> None:
        """Call `then` with the copies: now, if nothing is in flight, else in a later `copy` or `drain`."""
        if not self._waiting and not any(tensor.is_cuda for tensor in tensors):
            then(*map(_int64, tensors))
            return
        hosts = [_to_pinned(tensor) for tensor in tensors]
        self._waiting.append((_event(), hosts, then))
        self.drain(len(self._waiting) > _LONGEST)

    def drain(self, wait: bool = False) -> None:
        """Use what has arrived; wait: for the oldest as well. A dead context loses what is in flight, once."""
        try:
            while self._waiting and (wait or self._waiting[0][0].query()):
                event, hosts, then = self._waiting.popleft()
                event.synchronize()
                wait = False
                then(*map(_int64, hosts))
        except Exception:
            self._waiting.clear()
            raise

    def finish(self) -> None:
        """Wait for all of them."""
        while self._waiting:
            self.drain(wait=True)


def _to_pinned(tensor: Any) -> Any:
    import torch

    if not tensor.is_cuda:
        return tensor.clone()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor.detach(), non_blocking=True)


def _event() -> Any:
    import torch

    event = torch.cuda.Event()
    event.record()
    return event


def _int64(host: Any) -> Any:
    return host.detach().numpy().astype("int64")
