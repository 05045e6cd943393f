"""On Hopper and for its head sizes the launch decides the tile; everywhere and everything else is upstream's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.patches.hopper_extend_tile import PATCH, Call, Launcher
from g4diag.stack.arming import applied, problems
from g4diag.stack.pins import pin

NAME = "hopper-extend-tile"
STOCK, VERIFY, OTHER = (64, 64, 8, 1), (16, 64, 4, 2), (32, 64, 4, 2)
HEADS, KV_HEADS = 4, 2


class FakeKernel:
    """Stands for a jit kernel: subscriptable, with attributes, and keeps what it was launched with."""

    arg_names = ("q",)

    def __init__(self) -> None:
        self.launches: list[tuple[Any, dict[str, Any]]] = []

    def __getitem__(self, grid: Any) -> Any:
        return lambda *args, **kwargs: self.launches.append((grid, kwargs))


class Spy:
    """Launches the real kernel and keeps what it was launched with."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.launches = kernel, list[dict[str, Any]]()

    def __getitem__(self, grid: Any) -> Any:
        def launch(*args: Any, **kwargs: Any) -> None:
            self.launches.append(kwargs)
            self.kernel[grid](*args, **kwargs)

        return launch


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Upstream's module as it would be on an H100."""
    from sglang.srt.layers.attention.triton_ops import extend_attention

    monkeypatch.setattr(extend_attention, "_is_cuda", True)
    monkeypatch.setattr(extend_attention, "CUDA_CAPABILITY", (9, 0), raising=False)
    return extend_attention


@pytest.fixture
def kernels(module: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, FakeKernel]]:
    fakes = {name: FakeKernel() for name in ("_fwd_kernel", "_fwd_kernel_unified")}
    for name, fake in fakes.items():
        monkeypatch.setattr(module, name, fake)
    yield fakes


def inputs(batch: int, longest: int, dim: int = 256, prefix: int = 0, v_dim: int = 0) -> dict[str, Any]:
    """Arguments of extend_attention_fwd: float32, K/V slots in no order, a causal chain."""
    generator = torch.Generator().manual_seed(batch * 1000 + longest)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    tokens, v_dim = batch * longest, v_dim or dim
    return {
        "q_extend": noise(tokens, HEADS, dim),
        "k_extend": noise(tokens, KV_HEADS, dim),
        "v_extend": noise(tokens, KV_HEADS, v_dim),
        "o_extend": torch.full((tokens, HEADS, v_dim), float("nan")),
        "k_buffer": noise(batch * prefix + 1, KV_HEADS, dim),
        "v_buffer": noise(batch * prefix + 1, KV_HEADS, v_dim),
        "qo_indptr": torch.arange(0, tokens + 1, longest, dtype=torch.int32),
        "kv_indptr": torch.arange(0, batch + 1, dtype=torch.int32) * prefix,
        "kv_indices": torch.randperm(batch * prefix, generator=generator) + 1,
        "custom_mask": None,
        "is_causal": True,
        "mask_indptr": None,
        "max_len_extend": longest,
        "k_scale": 1.0,
        "v_scale": 1.0,
    }


def run_unified(module: Any, given: dict[str, Any]) -> None:
    names = ("k_buffer", "v_buffer", "k_scale", "v_scale", "qo_indptr", "kv_indptr", "kv_indices")
    prefix_lens = given["kv_indptr"].diff()
    rest = {name: given[name] for name in names} | {"prefix_lens": prefix_lens, "is_causal": True}
    module.extend_attention_fwd_unified(
        given["q_extend"], given["o_extend"], max_len_extend=given["max_len_extend"], **rest
    )


def reference(given: dict[str, Any], window: int = -1) -> torch.Tensor:
    """Attention by the definition, in float64, one request and head at a time."""
    out = torch.empty(given["o_extend"].shape, dtype=torch.float64)
    for request in range(given["qo_indptr"].numel() - 1):
        rows = slice(*given["qo_indptr"][request : request + 2].tolist())
        slots = given["kv_indices"][slice(*given["kv_indptr"][request : request + 2].tolist())]
        keys = torch.cat([given["k_buffer"][slots], given["k_extend"][rows]]).double()
        values = torch.cat([given["v_buffer"][slots], given["v_extend"][rows]]).double()
        query = given["q_extend"][rows].double()
        q_at, k_at = torch.arange(len(slots), len(keys))[:, None], torch.arange(len(keys))
        hidden = (k_at > q_at) | ((q_at > k_at + window) if window > 0 else torch.tensor(False))
        for head in range(HEADS):
            kv = head // (HEADS // KV_HEADS)
            scores = (query[:, head] @ keys[:, kv].T / query.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf)
            out[rows, head] = scores.softmax(-1) @ values[:, kv]
    return out


def launched(module: Any, kernels: dict[str, FakeKernel], *shape: int, unified: bool = False) -> tuple[int, ...]:
    """(BLOCK_M, BLOCK_N, num_warps, num_stages) that a call of this shape (see `inputs`) reaches the kernel with."""
    given, kernel = inputs(*shape), kernels["_fwd_kernel_unified" if unified else "_fwd_kernel"]
    run_unified(module, given) if unified else module.extend_attention_fwd(*given.values())
    grid, kwargs = kernel.launches.pop()
    assert grid[2] == -(-given["max_len_extend"] // kwargs["BLOCK_M"]), "the grid is that of the tile"
    return tuple(kwargs[name] for name in ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages"))


@pytest.mark.parametrize(
    ("batch", "longest", "tile"),
    [(8, 1, VERIFY), (32, 16, VERIFY), (7, 4, OTHER), (8, 17, OTHER), (1, 100, OTHER)],
)
def test_the_launch_decides_the_tile(
    module: Any, kernels: Any, batch: int, longest: int, tile: tuple[int, ...]
) -> None:
    with applied([NAME]):
        assert launched(module, kernels, batch, longest) == tile
    assert launched(module, kernels, batch, longest) == STOCK


def test_nothing_to_extend_is_no_verify() -> None:
    assert not Call(batch=8, longest=0, invariant=False).is_verify


def test_the_deterministic_kernel_has_one_tile_for_every_shape(module: Any, kernels: Any) -> None:
    with applied([NAME]):
        assert {launched(module, kernels, *shape, unified=True) for shape in ((32, 4), (1, 100))} == {OTHER}


@pytest.mark.parametrize("dims", [(64, 64), (128, 128), (192, 128), (288, 256), (512, 512), (576, 512)])
def test_other_head_sizes_are_upstreams(module: Any, kernels: Any, dims: tuple[int, int]) -> None:
    shape = (32, 4, dims[0], 0, dims[1])
    before = launched(module, kernels, *shape)
    with applied([NAME]):
        assert launched(module, kernels, *shape) == before


@pytest.mark.parametrize("cuda", [(8, 0), (8, 9), (10, 0), (11, 0), (12, 0), None])
def test_other_machines_are_upstreams(
    module: Any, kernels: Any, monkeypatch: pytest.MonkeyPatch, cuda: tuple[int, int] | None
) -> None:
    monkeypatch.setattr(module, "_is_cuda", cuda is not None)
    monkeypatch.setattr(module, "CUDA_CAPABILITY", cuda)
    before = launched(module, kernels, 32, 4)
    with applied([NAME]):
        assert launched(module, kernels, 32, 4) == before


def test_outside_a_call_and_in_another_thread_the_tile_is_upstreams(module: Any, kernels: Any) -> None:
    sizes, seen = module._get_block_sizes_for_extend_attention, []
    stock = sizes(256, 256)

    def look_elsewhere() -> None:
        thread = threading.Thread(target=lambda: seen.append(module._get_block_sizes_for_extend_attention(256, 256)))
        thread.start()
        thread.join()

    class Looking(FakeKernel):
        def __getitem__(self, grid: Any) -> Any:
            look_elsewhere()
            return super().__getitem__(grid)

    module._fwd_kernel = Looking()  # undone by the fixture's monkeypatch
    with applied([NAME]):
        assert module._get_block_sizes_for_extend_attention(256, 256) == stock
        module.extend_attention_fwd(*inputs(32, 4).values())
        assert seen == [stock]


def test_a_failing_launch_raises_its_own_error_and_leaves_no_scope(
    module: Any, kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(FakeKernel):
        def __getitem__(self, grid: Any) -> Any:
            raise MemoryError("the kernel's own")

    monkeypatch.setattr(module, "_fwd_kernel", Failing())
    with applied([NAME]):
        with pytest.raises(MemoryError, match="the kernel's own"):
            module.extend_attention_fwd(*inputs(32, 4).values())
        assert module._get_block_sizes_for_extend_attention(256, 256)[3:] == STOCK[:3]


def test_stages_are_set_only_on_the_very_tile(module: Any, kernels: Any) -> None:
    from g4diag.stack.hooks import Hook, install

    path = f"{module.__name__}._get_block_sizes_for_extend_attention"
    with applied([NAME]), install("another", [Hook(path, "after", lambda sizes, *_: (*sizes[:3], 128, 64, 8))]):
        assert launched(module, kernels, 32, 4) == (128, 64, 8, 1)


def test_the_stand_in_forwards_and_the_very_kernels_return(module: Any) -> None:
    names = ("_fwd_kernel", "_fwd_kernel_unified", "extend_attention_fwd", "_get_block_sizes_for_extend_attention")
    before = [vars(module)[name] for name in names]
    with applied([NAME]):
        assert isinstance(module._fwd_kernel, Launcher) and module._fwd_kernel.arg_names is before[0].arg_names
        assert not problems()
    assert all(vars(module)[name] is value for name, value in zip(names, before, strict=True))


@pytest.mark.parametrize(("batch", "longest", "dim"), [(8, 4, 256), (2, 70, 256), (8, 3, 192)])
@pytest.mark.parametrize("window", [-1, 40])
def test_the_real_kernel_agrees_with_the_definition_under_both_tiles(
    module: Any, monkeypatch: pytest.MonkeyPatch, batch: int, longest: int, dim: int, window: int
) -> None:
    """GIVEN the real kernel under the Triton interpreter, WHEN launched with either tile, THEN the error is < 2e-3."""
    given, spy = inputs(batch, longest, dim, prefix=50), Spy(module._fwd_kernel)
    monkeypatch.setattr(module, "_fwd_kernel", spy)
    wanted = reference(given, window)
    for names in ([], [NAME]):
        given["o_extend"].fill_(float("nan"))
        with applied(names):
            module.extend_attention_fwd(**given, sliding_window_size=window)
        assert (given["o_extend"] - wanted).abs().max() / wanted.abs().max() < 2e-3
    names = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages")
    tiles = [tuple(kwargs[name] for name in names) for kwargs in spy.launches]
    assert tiles == [STOCK, VERIFY if batch >= 8 else OTHER]


def test_the_real_unified_kernel_agrees_too(module: Any) -> None:
    given = inputs(8, 4, prefix=30)
    wanted = reference(given)
    # Unified: prefix and new K/V in one buffer, under one list of slots a request.
    old = given["k_buffer"].shape[0]
    slots = [
        torch.cat([given["kv_indices"][r * 30 : r * 30 + 30], torch.arange(old + r * 4, old + r * 4 + 4)])
        for r in range(8)
    ]
    unified = given | {
        "k_buffer": torch.cat([given["k_buffer"], given["k_extend"]]),
        "v_buffer": torch.cat([given["v_buffer"], given["v_extend"]]),
        "kv_indptr": torch.arange(9, dtype=torch.int32) * 34,
        "kv_indices": torch.cat(slots),
    }
    with applied([NAME]):
        module.extend_attention_fwd_unified(
            *(unified[name] for name in ("q_extend", "o_extend", "k_buffer", "v_buffer")),
            1.0,
            1.0,
            *(unified[name] for name in ("qo_indptr", "kv_indptr", "kv_indices")),
            torch.full((8,), 30, dtype=torch.int32),
            4,
        )
    assert (unified["o_extend"] - wanted).abs().max() / wanted.abs().max() < 2e-3


def test_every_anchor_of_the_installed_release_matches() -> None:
    assert [found.why for anchor in PATCH.anchors if not (found := pin(anchor)).matched] == []
