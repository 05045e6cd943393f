"""Copies that arrive later: order, one copy a step, streams, and tensors that somebody may write to meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from g4diag.stack.probes.async_copies import Arrivals


class OnGpu(torch.Tensor):
    """A CPU tensor that says it is on a GPU."""

    is_cuda = True  # type: ignore[assignment]


class Device:
    """Events that pass when told to; counts what it was asked for."""

    def __init__(self) -> None:
        self.passed, self.events, self.buffers = False, 0, 0
        self.now = "main"
        self.used: list[str] = []

    def buffer(self, numbers: int) -> Any:
        self.buffers += 1
        return torch.empty(numbers, dtype=torch.int64)

    def event(self) -> Any:
        self.events += 1
        self.used.append(self.now)
        return self

    def stream(self) -> str:
        return self.now

    @contextmanager
    def on(self, stream: str) -> Iterator[None]:
        before, self.now = self.now, stream
        yield
        self.now = before

    def query(self) -> bool:
        return self.passed

    def synchronize(self) -> None:
        pass


@pytest.fixture
def device() -> Device:
    return Device()


def gpu(*ids: int, dtype: torch.dtype = torch.int64) -> Any:
    return torch.tensor(ids, dtype=dtype).as_subclass(OnGpu)


def test_on_the_cpu_it_is_used_at_once(device: Device) -> None:
    seen: list[Any] = []
    Arrivals(device).copy([torch.tensor([1, 2], dtype=torch.int32)], seen.append)
    assert seen[0].tolist() == [1, 2] and seen[0].dtype == "int64" and device.events == 0


def test_a_steps_tensors_come_in_one_copy_and_in_order(device: Device) -> None:
    queue, seen = Arrivals(device), list[Any]()
    queue.copy([gpu(1, 2), gpu(3, dtype=torch.int32)], lambda a, b: seen.append((a.tolist(), b.tolist())))
    queue.copy([], lambda: seen.append("between"))
    queue.copy([torch.tensor([9])], lambda a: seen.append(a.tolist()))
    queue.copy([gpu(4)], lambda a: seen.append(a.tolist()))
    queue.drain()
    assert seen == [], "nothing was fetched yet"
    queue.flush()
    queue.drain()
    assert seen == [] and device.events == 1, "fetched once, and not there yet"
    device.passed = True
    queue.drain()
    assert seen == [([1, 2], [3]), "between", [9], [4]]
    queue.copy([gpu(5)], lambda a: seen.append(a.tolist()))
    queue.finish()
    assert seen[-1] == [5] and device.buffers == 1, "the buffer was used again"


def test_a_part_of_a_larger_tensor_is_taken_as_it_was(device: Device) -> None:
    queue, seen = Arrivals(device), list[Any]()
    table = gpu(*range(8))
    queue.copy([table[2:4]], lambda a: seen.append(a.tolist()))
    table[:] = -1
    queue.finish()
    assert seen == [[2, 3]]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_what_a_mapping_has_for_a_part_of_a_table_is_taken_as_both_were(device: Device, dtype: torch.dtype) -> None:
    queue, seen = Arrivals(device), list[Any]()
    table, mapping = gpu(*range(8), dtype=dtype), gpu(*range(10, 18))
    queue.copy_mapped(table[2:4], mapping, lambda a, b: seen.append((a.tolist(), b.tolist())))
    table[:] = mapping[:] = -1
    queue.finish()
    assert seen == [([2, 3], [12, 13])]


def test_what_was_made_on_a_stream_is_fetched_on_it(device: Device) -> None:
    queue, seen = Arrivals(device), list[Any]()
    queue.copy([gpu(1)], lambda a: seen.append(a.tolist()))
    device.now = "side"
    queue.copy([gpu(2)], lambda a: seen.append(a.tolist()))
    device.now = "main"
    queue.finish()
    assert device.used == ["main", "side"] and seen == [[1], [2]]


def test_a_dead_context_loses_what_is_in_flight_once(device: Device) -> None:
    queue, seen = Arrivals(device), list[Any]()
    queue.copy([gpu(1)], seen.append)
    queue.flush()

    def dead() -> bool:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    device.query = dead  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        queue.drain()
    queue.drain()
    queue.finish()
    assert seen == []
