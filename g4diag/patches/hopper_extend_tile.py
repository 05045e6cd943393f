"""Triton extend attention on Hopper, 128 < head_dim <= 256: a tile for what is launched, not for the head size alone.

Symptom: with head_dim 256 the triton backend's extend and target-verify kernels run several times slower on an H100
than they need to; verify, four rows a request, pays for a tile of 64.
Cause: upstream picks the tile by head size only, (64,64) with 8 warps since #26588 and (128,64) before, and both
callers launch with a literal `num_stages = 1`, so no load overlaps the arithmetic. 4 rows fill 6 % of a 64-row tile.
Cure: `tile_for`: six tiles, by what the host knows of a launch without a sync.
Figures: `benchmarks/extend_tile.py --more --sweep 120`, H100 80GB HBM3, 2026-11-22; 8 heads over 4, bf16. Of the 21 or
22 tiles tried on each of 13 shapes (12 on the last), these are the best or within 4 % of it on 12; 25 % off on
`verify pre64`, whose prefix length a graph hides. All 13 are faster than 0.5.13. Not measured: other head counts, a
fp8 cache, extends of 17 .. 63 and 65 .. 999 tokens. The windowed loops have a branch in them: there stages do nothing.
How it gets there: none of that reaches the tile function, so the entry points publish the tile for the length of the
call. `num_stages` is no argument of anything, so a stand-in for the jit kernel sets it at launch, only where the very
tile chosen here arrives: three stages of somebody else's may not fit shared memory. A context variable holds it: other
threads see nothing. `kv_indices` has the length of the prefixes in eager prefill, and of the whole buffer at a capture;
what is captured is verify and draft extend, few rows, whose tile does not ask.

Where the fork is wrong: its log line says `batch >= 8`, its gate is `batch >= 8 and 0 < max_len_extend <= 16`, and the
batch is no question of its own: four requests of four tokens are a verify too, and what it has for the rest, (32,64) w4
s2, takes 494 us for 0.5.13's 429 there, and 973 for 867 on 1024 tokens after 8192. How many programs there are decides
the warps. Its two stages are one too few: 812 us on `verify pre8000`, 492 with three.
The unified kernel is what --enable-deterministic-inference runs, whose promise is that a row does not depend on its
batch: one tile, the one that beats 0.5.13's on all 13 in the two-stage kernel. Not measured in its own.
Releases: the module moved in 0.5.16, and upstream's choice for Hopper is the same to 0.5.23, though the kernel grew
(paged strides, score_mod). 0.5.23's kernel on an H100 (its file alone, triton 3.6.0, 2026-11-28): all 13 right, and
faster: verify 2.4 to 4.0 times, the rest 1.02 to 1.44; least on 1024 tokens after 8192, 845 us for 862. The split-KV
verify of later releases is AMD's only. The backend's own `extend_attention_block_m`, which its scheduler's admission
asks, stays upstream's.
Untouched: other architectures (sm_100 and sm_120 have tiles of their own); other head sizes, a wide query over a narrow
value (192/128) included; elements of more than two bytes: (64,64) in two stages is 320 KiB then, of 227.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from g4diag.errors import PatchRefused
from g4diag.guard import guard
from g4diag.hooks.anchors import Anchor
from g4diag.hooks.attribute_patches import Swap
from g4diag.hooks.install import Hook
from g4diag.hooks.targets import resolve
from g4diag.patches.contract import Form, Patch

_UNTIL_0515 = "sglang.srt.layers.attention.triton_ops.extend_attention"
_SINCE_0516 = "sglang.kernels.ops.attention.extend_attention"
_SIZES, _ENTRIES = "_get_block_sizes_for_extend_attention", ("extend_attention_fwd", "extend_attention_fwd_unified")
_KERNELS = ("_fwd_kernel", "_fwd_kernel_unified")
_STAGES = "num_stages = 1"
_STAGES_BY_SHAPE = "_get_num_stages_for_extend_attention(Lq, Lv, BLOCK_N) if kimi_k3_shape else 1"
_MULTIPROCESSORS = 132  # of an H100 SXM: up to there each program has one to itself


class Tile(NamedTuple):
    """Rows and keys a program handles at a time, its warps, and its software-pipelining depth."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


_INVARIANT = Tile(32, 32, 4, 3)
_tile: ContextVar[Tile | None] = ContextVar("g4diag_extend_tile", default=None)


def tile_for(batch: int, heads: int, longest: int, window: int, prefix: int) -> Tile:
    """longest: most new tokens of a request. window: <= 0 for a full layer. prefix: cached tokens of all requests."""
    if longest <= 16:  # speculative verify, draft extend
        if window > 0:
            return Tile(16, 128, 4, 1)
        return Tile(16, 64, 8 if batch * heads <= _MULTIPROCESSORS else 4, 3)
    if window > 0:
        return Tile(32, 32, 4, 2)
    if prefix == 0:
        return Tile(32, 64, 4, 2)
    return Tile(32, 32, 4, 3) if longest <= 64 else Tile(64, 64, 8, 2)


def block_sizes(original: Callable[[int, int], tuple[int, ...]], Lq: int, Lv: int) -> tuple[int, ...]:
    """Upstream's (BLOCK_DMODEL, BLOCK_DPE, BLOCK_DV, BLOCK_M, BLOCK_N, num_warps) with the last three ours."""
    sizes, tile = original(Lq, Lv), _tile.get()
    return sizes if tile is None else (*sizes[:3], *tile[:3])


class Launcher:
    """Stands where a triton.jit kernel is: forwards everything, and sets `num_stages` where our tile is launched."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        launch, tile = self._kernel[grid], _tile.get()
        if tile is None:
            return launch

        def launch_in_stages(*args: Any, **kwargs: Any) -> Any:
            if (kwargs.get("BLOCK_M"), kwargs.get("BLOCK_N"), kwargs.get("num_warps")) == tile[:3]:
                kwargs["num_stages"] = tile.num_stages
            return launch(*args, **kwargs)

        return launch_in_stages


def _publishing(path: str, choose: Callable[[Callable[[str], Any]], Tile]) -> Hook:
    """choose: the tile, given a reader of the call's arguments by name; asked on this machine and these types only."""
    parameters = inspect.signature(resolve(path).function).parameters
    places = {name: (at, parameter.default) for at, (name, parameter) in enumerate(parameters.items())}
    module, safely = import_module(path.rpartition(".")[0]), guard(f"reading the arguments of {path}")
    query, value = ("q_extend", "v_extend") if "q_extend" in places else ("q", "v_buffer")

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def read(name: str) -> Any:
            at, default = places[name]
            return args[at] if at < len(args) else kwargs.get(name, default)

        tile = None
        with safely:
            # As upstream reads it: the constant exists on CUDA only, and `>= 9` there also means what comes after.
            if (
                module._is_cuda
                and module.CUDA_CAPABILITY[0] == 9
                and _is_ours(read(query), read(value), read("k_buffer"))
            ):
                tile = choose(read)
        token = _tile.set(tile)
        try:
            return original(*args, **kwargs)
        finally:
            _tile.reset(token)

    return Hook(path, "around", around)


def _is_ours(query: Any, value: Any, cache: Any) -> bool:
    narrow = query.dtype.itemsize <= 2 and cache.dtype.itemsize <= 2
    return narrow and 128 < query.shape[-1] <= 256 and 128 < value.shape[-1] <= 256


def _by_shape(read: Callable[[str], Any]) -> Tile:
    batch, heads = read("qo_indptr").shape[0] - 1, read("q_extend").shape[1]
    return tile_for(batch, heads, read("max_len_extend"), read("sliding_window_size"), read("kv_indices").shape[0])


def hooks(module: str) -> tuple[Hook, ...]:
    """Both entry points publish, the tile function reads."""
    return (
        _publishing(f"{module}.{_ENTRIES[0]}", _by_shape),
        _publishing(f"{module}.{_ENTRIES[1]}", lambda read: _INVARIANT),
        Hook(f"{module}.{_SIZES}", "around", block_sizes),
    )


def swaps(module: str) -> tuple[Swap, ...]:
    """A launcher for each kernel."""
    return tuple(Swap(f"{module}.{kernel}", Launcher) for kernel in _KERNELS)


def verify(module: str) -> None:
    """A published tile must arrive; unpublished, another must."""
    sizes, wanted = getattr(import_module(module), _SIZES), (16, 16, 1)
    stock = tuple(sizes(256, 256)[3:])
    token = _tile.set(Tile(*wanted, 1))
    try:
        found = tuple(sizes(256, 256)[3:])
    finally:
        _tile.reset(token)
    if found != wanted or stock == wanted:
        raise PatchRefused(PATCH.name, f"the tile {wanted} inside a call alone", f"{found}, outside {stock}")


def _form(releases: str, module: str, stages: str) -> Form:
    entries = [(f"{module}.{entry}", kernel) for entry, kernel in zip(_ENTRIES, _KERNELS, strict=True)]
    return Form(
        releases=releases,
        anchors=(
            Anchor(f"{module}.{_SIZES}", "elif _is_cuda and CUDA_CAPABILITY[0] >= 9:"),
            Anchor(f"{module}.{_SIZES}", "return BLOCK_DMODEL, BLOCK_DPE, BLOCK_DV, BLOCK_M, BLOCK_N, num_warps"),
            Anchor(entries[0][0], stages),
            Anchor(entries[1][0], _STAGES),
            *(Anchor(path, "= qo_indptr.shape[0] - 1, ") for path, _ in entries),
            *(Anchor(path, f"{kernel}[grid](") for path, kernel in entries),
        ),
        hooks=partial(hooks, module),
        swaps=partial(swaps, module),
        verify=partial(verify, module),
    )


PATCH = Patch(
    name="hopper-extend-tile",
    kind="cure",
    why="Hopper, 128 < head_dim <= 256: triton extend and verify run a tile of 64 rows without pipelining.",
    how="Around both extend_attention_fwd, the tile function and the kernel's launch: tile and stages by shape.",
    upstream="the fork pyc96/sglang; in part sgl-project/sglang#26588, (64,64) for (128,64)",
    releases=">=0.5.12.post1",
    forms=(
        _form(">=0.5.12.post1,<0.5.16", _UNTIL_0515, _STAGES),
        _form(">=0.5.16,<0.5.20", _SINCE_0516, _STAGES),
        _form(">=0.5.20", _SINCE_0516, _STAGES_BY_SHAPE),
    ),
    remove_when="Upstream picks the extend tile by batch and extend length, with a pipelining depth.",
)
