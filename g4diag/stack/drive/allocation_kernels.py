"""sglang's two allocation kernels, by their interpreter or by a way that is thirty times faster.

Interpreted, one launch takes some 5 ms and a campaign spends its budget in Triton. The fast way is upstream's own
`alloc_extend_naive` for the extend kernel and a dozen lines of ours for the decode kernel; a test holds both against
the interpreter. Each example says which it uses. A release that launches none on a CPU goes ways of its own there,
unless `launch_kernels` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from g4diag.hooks.anchors import has_module
from g4diag.hooks.attribute_patches import Swap, swap
from g4diag.hooks.targets import imported
from g4diag.stack.drive.driver import driver

_interpreted = True


def use_interpreter(on: bool) -> None:
    """Which way the kernels go from here on, where `switchable` is open."""
    global _interpreted
    _interpreted = on


def is_interpreted() -> bool:
    """What `use_interpreter` last decided."""
    return _interpreted


@contextmanager
def interpreter(on: bool) -> Iterator[None]:
    """`use_interpreter` for the body; what was decided before holds again after it."""
    before = _interpreted
    use_interpreter(on)
    try:
        yield
    finally:
        use_interpreter(before)


def has_allocation_kernels() -> bool:
    """Whether they lie where this release's drive says."""
    return has_module(driver().SCHEDULING.ALLOCATION_KERNELS)


def is_switchable() -> bool:
    """Whether `switchable` is open."""
    return isinstance(imported(f"{driver().SCHEDULING.ALLOCATION_KERNELS}.alloc_extend_kernel"), Switch)


@contextmanager
def switchable() -> Iterator[None]:
    """For the body, `use_interpreter` decides; it begins with the interpreter."""
    ways: dict[str, Callable[..., None]] = {"alloc_extend_kernel": fast_extend, "alloc_decode_kernel": fast_decode}
    module = driver().SCHEDULING.ALLOCATION_KERNELS
    swaps = [Swap(f"{module}.{name}", partial(Switch, fast=fast)) for name, fast in ways.items()]
    with swap("g4diag index kernels", swaps), interpreter(True):
        yield


@contextmanager
def switchable_with_rows() -> Iterator[None]:
    """As `switchable`, and for the kernel by which speculation writes req_to_token."""
    scheduling = driver().SCHEDULING
    rows = Swap(scheduling.ROW_KERNEL, partial(Switch, fast=fast_rows))
    with switchable(), scheduling.launched_row_kernel(), swap("g4diag index kernels", [rows]):
        yield


def launch_kernels(allocator: Any) -> None:
    """From here on a hybrid allocator launches the kernels, also where the platform is one on which it would not."""
    driver().SCHEDULING.launch_kernels(allocator)


class Switch:
    """Stands where a kernel is and is launched as one: `kernel[grid](...)`."""

    def __init__(self, kernel: Any, fast: Callable[..., None]) -> None:
        self.kernel, self.fast = kernel, fast

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
        return self.kernel[grid] if _interpreted else self.fast

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernel, name)


def fast_extend(pre_lens: Any, seq_lens: Any, last_loc: Any, free_pages: Any, out: Any, _: int, page_size: int) -> None:
    """The extend kernel by upstream's own naive function. int64 tensors on the CPU; `out` is filled."""
    from sglang.srt.mem_cache.allocator.paged import alloc_extend_naive

    alloc_extend_naive(pre_lens, seq_lens, last_loc, free_pages, out, page_size, "cpu")


def fast_decode(seq_lens: Any, last_loc: Any, free_pages: Any, out: Any, _: int, page_size: int) -> None:
    """The decode kernel: a request whose new token begins a page takes the next free one, any other the slot after
    its last. int64 tensors on the CPU; `out` is filled."""
    begins_B = (seq_lens - 1) % page_size == 0
    out.copy_(last_loc + 1)
    out[begins_B] = free_pages[: int(begins_B.sum())] * page_size


def fast_rows(rows: Any, req_to_token: Any, starts: Any, ends: Any, slots: Any, *_: int) -> None:
    """The req_to_token kernel: row rows[b] gets the next of `slots` at positions starts[b] .. ends[b]."""
    done = 0
    for row, start, end in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
        req_to_token[row, start:end] = slots[done : done + end - start].to(req_to_token.dtype)
        done += end - start
