"""Triton extend attention on Hopper, 128 < head_dim <= 256: a tile for what is launched, not for the head size alone.

Symptom: with head_dim 256 the triton backend's extend and target-verify kernels run several times slower on an H100
than they need to; verify, four rows a request, pays for a tile of 64.
Cause: upstream picks the tile by head size only, (64,64) with 8 warps since #26588 and (128,64) before, and both
callers launch with a literal `num_stages = 1`, so no load overlaps the arithmetic. 4 rows fill 6 % of a 64-row tile.
Cure: (16,64), 4 warps, 2 stages for the verify shape, (32,64), 4 warps, 2 stages for the rest of the class.
How it gets there: neither batch nor extend length reaches the tile function, so both entry points publish them for
the length of the call; `num_stages` is no argument of anything, so a stand-in for the jit kernel sets it at launch.
It does so only where the very tile chosen here arrives: two stages of somebody else's tile may not fit shared memory.
Everything read is a host value, known at graph capture too. A context variable holds it: other threads see nothing.

Where the seed is wrong: its log line says `batch >= 8`, its gate is `batch >= 8 and 0 < max_len_extend <= 16`; eight
long prefills are no verify. And the unified kernel is what --enable-deterministic-inference runs, whose promise is
that a row does not depend on its batch: there the tile is the same for every shape.
Untouched: other architectures (sm_100 and sm_120 have tiles of their own), head sizes of any other class, a wide
query over a narrow value (192/128) included.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from g4diag.errors import PatchRefused
from g4diag.guard import guard
from g4diag.patches.contract import Patch
from g4diag.stack.hooks import Hook
from g4diag.stack.pins import Anchor
from g4diag.stack.swaps import Swap
from g4diag.stack.targets import resolve

_MODULE = "sglang.srt.layers.attention.triton_ops.extend_attention"
_SIZES = f"{_MODULE}._get_block_sizes_for_extend_attention"
_ENTRIES = {f"{_MODULE}.extend_attention_fwd": False, f"{_MODULE}.extend_attention_fwd_unified": True}
_KERNELS = (f"{_MODULE}._fwd_kernel", f"{_MODULE}._fwd_kernel_unified")


@dataclass(frozen=True)
class Tile:
    """Rows and keys a program handles at a time, its warps, and its software-pipelining depth."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True)
class Call:
    """What one call launches. batch: requests. longest: most new tokens of a request. invariant: the tile must not
    depend on either."""

    batch: int
    longest: int
    invariant: bool

    @property
    def is_verify(self) -> bool:
        """Many requests of a few tokens: speculative verify."""
        return not self.invariant and self.batch >= 8 and 0 < self.longest <= 16


_VERIFY, _OTHER = Tile(16, 64, 4, 2), Tile(32, 64, 4, 2)
_call: ContextVar[Call | None] = ContextVar("g4diag_extend_call", default=None)


def tile_for(call: Call | None, query_dim: int, value_dim: int) -> Tile | None:
    """The tile to use, None where upstream's is to stay."""
    if call is None or not (128 < query_dim <= 256 and 128 < value_dim <= 256) or not _on_hopper():
        return None
    return _VERIFY if call.is_verify else _OTHER


def _on_hopper() -> bool:
    from sglang.srt.layers.attention.triton_ops import extend_attention

    # As upstream reads it: the constant exists on CUDA only, and `>= 9` there also means what comes after Blackwell.
    return bool(extend_attention._is_cuda) and extend_attention.CUDA_CAPABILITY[0] == 9


def block_sizes(original: Callable[[int, int], tuple[int, ...]], Lq: int, Lv: int) -> tuple[int, ...]:
    """Upstream's (BLOCK_DMODEL, BLOCK_DPE, BLOCK_DV, BLOCK_M, BLOCK_N, num_warps) with the last three ours."""
    sizes = original(Lq, Lv)
    tile = tile_for(_call.get(), Lq, Lv)
    return sizes if tile is None else (*sizes[:3], tile.block_m, tile.block_n, tile.num_warps)


class Launcher:
    """Stands where a triton.jit kernel is: forwards everything, and sets `num_stages` where our tile is launched."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        launch = self._kernel[grid]
        call = _call.get()
        if call is None:
            return launch

        def launch_in_stages(*args: Any, **kwargs: Any) -> Any:
            tile = tile_for(call, kwargs.get("Lq", 0), kwargs.get("Lv", 0))
            arrived = tuple(kwargs.get(name) for name in ("BLOCK_M", "BLOCK_N", "num_warps"))
            if tile is not None and arrived == (tile.block_m, tile.block_n, tile.num_warps):
                kwargs["num_stages"] = tile.num_stages
            return launch(*args, **kwargs)

        return launch_in_stages


def _publishing(path: str, invariant: bool) -> Hook:
    names = list(inspect.signature(resolve(path).function).parameters)
    offsets_at, longest_at = names.index("qo_indptr"), names.index("max_len_extend")
    safely = guard(f"reading the arguments of {path}")

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = None
        with safely:
            qo_indptr = args[offsets_at] if len(args) > offsets_at else kwargs["qo_indptr"]
            longest = args[longest_at] if len(args) > longest_at else kwargs["max_len_extend"]
            call = Call(qo_indptr.shape[0] - 1, longest, invariant)
        token = _call.set(call)
        try:
            return original(*args, **kwargs)
        finally:
            _call.reset(token)

    return Hook(path, "around", around)


def hooks() -> tuple[Hook, ...]:
    """Both entry points publish, the tile function reads."""
    return (
        *(_publishing(path, invariant) for path, invariant in _ENTRIES.items()),
        Hook(_SIZES, "around", block_sizes),
    )


def verify() -> None:
    """A verify launch, published by hand, must get the tile this machine is to have; one unpublished, upstream's."""
    from sglang.srt.layers.attention.triton_ops import extend_attention

    def blocks(call: Call | None) -> tuple[int, ...]:
        token = _call.set(call)
        try:
            return tuple(extend_attention._get_block_sizes_for_extend_attention(256, 256)[3:])
        finally:
            _call.reset(token)

    stock = blocks(None)
    wanted = (_VERIFY.block_m, _VERIFY.block_n, _VERIFY.num_warps) if _on_hopper() else stock
    if (found := blocks(Call(32, 4, False))) != wanted:
        raise PatchRefused(PATCH.name, f"the tile {wanted} for a verify launch", f"{found}")


PATCH = Patch(
    name="hopper-extend-tile",
    kind="cure",
    why="Hopper, 128 < head_dim <= 256: triton extend and verify run a tile of 64 rows without pipelining.",
    how="Around both extend_attention_fwd, the tile function and the kernel's launch: a tile and two stages by shape.",
    upstream="seed fork pyc96/sglang; in part sgl-project/sglang#26588, (64,64) for (128,64)",
    releases=">=0.5.12.post1,<=0.5.23",
    anchors=(
        Anchor(_SIZES, "elif _is_cuda and CUDA_CAPABILITY[0] >= 9:"),
        Anchor(_SIZES, "return BLOCK_DMODEL, BLOCK_DPE, BLOCK_DV, BLOCK_M, BLOCK_N, num_warps"),
        *(Anchor(path, "num_stages = 1") for path in _ENTRIES),
        *(Anchor(path, "= qo_indptr.shape[0] - 1, ") for path in _ENTRIES),
        *(Anchor(path, f"{kernel.rpartition('.')[2]}[grid](") for path, kernel in zip(_ENTRIES, _KERNELS, strict=True)),
    ),
    hooks=hooks,
    swaps=lambda: tuple(Swap(kernel, Launcher) for kernel in _KERNELS),
    verify=verify,
    remove_when="Upstream picks the extend tile by batch and extend length, with a pipelining depth.",
)
