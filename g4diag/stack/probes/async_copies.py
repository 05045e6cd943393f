"""Host copies of device tensors without a sync: asked for now, fetched together once a step, used in the order they
were asked for, once there.

One step of a server makes some ten small tensors worth a look. They are kept, joined by one kernel and brought to
pinned memory by one copy (`flush`); whoever asked is called when a later `drain` finds the copy's event passed. A
part of a larger tensor is copied on the device at once, since that may be written before the step ends. On the
CPU everything is used at once. Order is kept either way, so that a book of what is live can be kept from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_MANY = 256  # tensors kept before they are fetched without waiting for the step's end
_LONGEST = 64  # fetches in flight before the oldest is waited for; a server never gets there unless its GPU hangs


class Cuda:
    """What arrivals need of a device: where a copy lands, how to know that it is there, and which stream we are on."""

    def buffer(self, numbers: int) -> Any:
        """Pinned int64 host memory."""
        import torch

        return torch.empty(numbers, dtype=torch.int64, pin_memory=True)

    def event(self) -> Any:
        """Recorded behind the work so far."""
        import torch

        event = torch.cuda.Event()
        event.record()
        return event

    def stream(self) -> Any:
        """The current one."""
        import torch

        return torch.cuda.current_stream()

    def on(self, stream: Any) -> Any:
        """A context in which it is the current one."""
        import torch

        return torch.cuda.stream(stream)


class Arrivals:
    """`copy(tensors, then)`: `then` is called with one int64 array a tensor, each its own memory."""

    def __init__(self, device: Any = None) -> None:
        self._device = device or Cuda()
        self._asked: list[tuple[list[Any], Callable[..., None]]] = []
        self._waiting: deque[tuple[Any, Any, list[tuple[list[Any], Callable[..., None]]]]] = deque()
        self._spare: list[Any] = []
        self._stream: Any = None
        self._kept = 0

    def copy(self, tensors: Sequence[Any], then: Callable[..., None]) -> None:
        """Call `then` with the copies: now, if nothing is kept or in flight and none is on a device, else later."""
        on_device = False
        for tensor in tensors:
            on_device |= tensor.is_cuda
        if not on_device and not self._asked and not self._waiting:
            then(*[_on_host(tensor) for tensor in tensors])
            return
        if on_device:
            stream = self._device.stream()
            if self._asked and self._stream is not None and stream != self._stream:
                self.flush()
            self._stream = stream
        self._asked.append(([_safe(tensor) for tensor in tensors], then))
        self._kept += len(tensors)
        if self._kept >= _MANY:
            self.flush()

    def copy_mapped(self, slots: Any, mapping: Any, then: Callable[..., None], *more: Any) -> None:
        """`copy` of the slots, what the mapping that lies where they do has for each, and `more`."""
        if self._asked or self._waiting or mapping.is_cuda:
            slots = slots.long()  # of int32 that is memory of our own, so that no copy is made besides
            self.copy([slots, mapping[slots], *more], then)
            return
        slots_N = _on_host(slots)  # numpy looks them up in a fraction of torch's time
        then(slots_N, mapping.numpy()[slots_N].astype(np.int64, copy=False), *map(_on_host, more))

    def flush(self) -> None:
        """Fetch what was kept, on the stream it was made on."""
        if not self._asked:
            return
        asked, self._asked, self._kept = self._asked, [], 0
        stream, self._stream = self._stream, None
        parts = [
            tensor if tensor.dim() == 1 else tensor.reshape(-1)
            for tensors, _ in asked
            for tensor in tensors
            if not isinstance(tensor, np.ndarray)
        ]
        if stream is None or stream == self._device.stream():
            event, host = self._fetched(parts)
        else:
            with self._device.on(stream):
                event, host = self._fetched(parts)
        self._waiting.append((event, host, asked))
        if len(self._waiting) > _LONGEST:
            self.drain(wait=True)

    def drain(self, wait: bool = False) -> None:
        """Use what has arrived; wait: for the oldest as well. A dead context loses what is in flight, once."""
        try:
            while self._waiting and (wait or self._waiting[0][0].query()):
                event, host, asked = self._waiting.popleft()
                event.synchronize()
                wait = False
                self._use(host, asked)
        except Exception:
            self._waiting.clear()
            self._asked.clear()
            raise

    def finish(self) -> None:
        """Fetch and wait for all of them."""
        self.flush()
        while self._waiting:
            self.drain(wait=True)

    def _fetched(self, parts: Sequence[Any]) -> tuple[Any, Any]:
        import torch

        numbers = sum(part.numel() for part in parts)
        host = self._buffer(numbers)
        if parts:
            host[:numbers].copy_(torch.cat(list(parts)).to(torch.int64), non_blocking=True)
        return self._device.event(), host

    def _buffer(self, numbers: int) -> Any:
        for at, host in enumerate(self._spare):
            if len(host) >= numbers:
                return self._spare.pop(at)
        return self._device.buffer(max(4096, 1 << numbers.bit_length()))

    def _use(self, host: Any, asked: Sequence[tuple[list[Any], Callable[..., None]]]) -> None:
        here, at = host.numpy(), 0
        for tensors, then in asked:
            arrays = []
            for tensor in tensors:
                if isinstance(tensor, np.ndarray):
                    arrays.append(tensor)
                else:
                    arrays.append(here[at : at + tensor.numel()].copy())
                    at += tensor.numel()
            then(*arrays)
        if len(self._spare) < _LONGEST:
            self._spare.append(host)


def _safe(tensor: Any) -> Any:
    """Something of the tensor that nobody will write to."""
    if not tensor.is_cuda:
        return _on_host(tensor)
    # By size, not by `_base`: inference mode does not track views.
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor.detach() if whole else tensor.detach().clone()


def _on_host(tensor: Any) -> Any:
    """int64: what a tensor on the CPU holds now, in memory of its own."""
    return tensor.numpy().astype(np.int64)
