"""On Hopper and for its head sizes the launch decides the tile; everywhere and everything else is upstream's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

pytest.importorskip("sglang")

import torch
from packaging.specifiers import SpecifierSet

from g4diag.hooks.versions import version_of
from g4diag.patches.applying import applied, problems
from g4diag.patches.contract import form_for, unmatched
from g4diag.patches.hopper_extend_tile import _INVARIANT, PATCH, Launcher, Tile, tile_for

NAME = "hopper-extend-tile"
STOCK = (64, 64, 8, 1)
HEADS, KV_HEADS = 4, 2
NAMES = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages")

# The thirteen shapes that were measured, 8 heads: (batch, longest, window, prefix of a request) -> tile.
MEASURED = {
    (1, 8192, -1, 0): (32, 64, 4, 2),
    (1, 1000, -1, 0): (32, 64, 4, 2),
    (4, 1000, -1, 0): (32, 64, 4, 2),
    (32, 4, 1024, 1000): (16, 128, 4, 1),
    (128, 4, 1024, 1000): (16, 128, 4, 1),
    (32, 4, -1, 8000): (16, 64, 4, 3),
    (32, 4, -1, 64): (16, 64, 4, 3),
    (4, 4, -1, 4000): (16, 64, 8, 3),
    (8, 16, -1, 2000): (16, 64, 8, 3),
    (1, 1024, -1, 8192): (64, 64, 8, 2),
    (16, 64, -1, 2000): (32, 32, 4, 3),
    (1, 2048, 1024, 1023): (32, 32, 4, 2),
    (1, 8192, 1024, 0): (32, 32, 4, 2),
}
# Small launches of every class: (batch, longest, window, prefix of a request) -> tile, at 4 heads.
SMALL = {
    (8, 4, -1, 50): (16, 64, 8, 3),
    (34, 1, -1, 20): (16, 64, 4, 3),
    (2, 16, 40, 50): (16, 128, 4, 1),
    (2, 17, 40, 50): (32, 32, 4, 2),
    (1, 100, 40, 0): (32, 32, 4, 2),
    (2, 70, -1, 0): (32, 64, 4, 2),
    (2, 64, -1, 50): (32, 32, 4, 3),
    (1, 70, -1, 50): (64, 64, 8, 2),
}


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
    form = form_for(PATCH)
    assert form is not None, unmatched(PATCH)
    extend_attention = import_module(form.anchors[0].target.rpartition(".")[0])
    monkeypatch.setattr(extend_attention, "_is_cuda", True)
    monkeypatch.setattr(extend_attention, "CUDA_CAPABILITY", (9, 0), raising=False)
    return extend_attention


@pytest.fixture
def kernels(module: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, FakeKernel]]:
    fakes = {name: FakeKernel() for name in ("_fwd_kernel", "_fwd_kernel_unified")}
    for name, fake in fakes.items():
        monkeypatch.setattr(module, name, fake)
    yield fakes


def inputs(
    batch: int, longest: int, dim: int = 256, prefix: int = 0, v_dim: int = 0, dtype: torch.dtype = torch.float16
) -> dict[str, Any]:
    """Arguments of extend_attention_fwd: float16 (interpreted bf16 products are nonsense), K/V slots in no order, a
    causal chain, a float32 output, so that the kernel's own error is seen."""
    generator = torch.Generator().manual_seed(batch * 1000 + longest)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    tokens, v_dim = batch * longest, v_dim or dim
    return {
        "q_extend": noise(tokens, HEADS, dim),
        "k_extend": noise(tokens, KV_HEADS, dim),
        "v_extend": noise(tokens, KV_HEADS, v_dim),
        "o_extend": torch.full((tokens, HEADS, v_dim), float("nan"), dtype=torch.float32),
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


def launched(
    module: Any, kernels: dict[str, FakeKernel], given: dict[str, Any], window: int = -1, unified: bool = False
) -> tuple[int, ...]:
    """(BLOCK_M, BLOCK_N, num_warps, num_stages) that a call reaches the kernel with."""
    kernel = kernels["_fwd_kernel_unified" if unified else "_fwd_kernel"]
    if unified:
        run_unified(module, given)
    else:
        module.extend_attention_fwd(*given.values(), sliding_window_size=window)
    grid, kwargs = kernel.launches.pop()
    assert grid[2] == -(-given["max_len_extend"] // kwargs["BLOCK_M"]), "the grid is that of the tile"
    return tuple(kwargs[name] for name in NAMES)


@pytest.mark.parametrize(("shape", "tile"), MEASURED.items())
def test_each_measured_shape_has_the_tile_it_was_measured_with(
    shape: tuple[int, int, int, int], tile: tuple[int, ...]
) -> None:
    batch, longest, window, prefix = shape
    assert tile_for(batch, 8, longest, window, batch * prefix) == tile


@pytest.mark.parametrize(("shape", "tile"), SMALL.items())
def test_the_launch_decides_the_tile(
    module: Any, kernels: Any, shape: tuple[int, int, int, int], tile: tuple[int, ...]
) -> None:
    batch, longest, window, prefix = shape
    given = inputs(batch, longest, prefix=prefix)
    with applied([NAME]):
        assert launched(module, kernels, given, window) == tile
        module.extend_attention_fwd(**given, sliding_window_size=window)
        assert kernels["_fwd_kernel"].launches.pop()[1]["BLOCK_M"] == tile[0], "by keyword as by position"
    assert launched(module, kernels, given, window) == STOCK


def test_every_tile_of_the_rule_is_launched_by_a_small_case() -> None:
    assert set(MEASURED.values()) == set(SMALL.values())


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ((16, 8, 4, -1, 9), (17, 8, 4, -1, 9)),  # 128 programs have a multiprocessor each, 136 have not
        ((8, 8, 16, -1, 9), (8, 8, 17, -1, 9)),
        ((8, 8, 64, -1, 9), (8, 8, 65, -1, 9)),
        ((8, 8, 65, -1, 0), (8, 8, 65, -1, 1)),
        ((8, 8, 65, 0, 0), (8, 8, 65, 1, 0)),
        ((8, 8, 4, 0, 9), (8, 8, 4, 1, 9)),
    ],
)
def test_the_borders_of_the_rule(low: tuple[int, ...], high: tuple[int, ...]) -> None:
    assert tile_for(*low) != tile_for(*high)


def test_no_window_may_be_said_as_none_of_its_values() -> None:
    assert tile_for(1, 8, 100, 0, 0) == tile_for(1, 8, 100, -1, 0)


@pytest.mark.parametrize("unified", [False, True])
def test_wide_elements_do_not_fit_and_keep_upstreams_tile(module: Any, kernels: Any, unified: bool) -> None:
    given = inputs(2, 4, dtype=torch.float32)
    with applied([NAME]):
        assert launched(module, kernels, given, unified=unified) == STOCK
        narrow = inputs(2, 4) | {"k_buffer": given["k_buffer"]}
        assert launched(module, kernels, narrow, unified=unified) == STOCK


def test_the_deterministic_kernel_has_one_tile_for_every_shape(module: Any, kernels: Any) -> None:
    with applied([NAME]):
        seen = {launched(module, kernels, inputs(*shape), unified=True) for shape in ((32, 4), (1, 100))}
    assert seen == {_INVARIANT}


@pytest.mark.parametrize("dims", [(64, 64), (128, 128), (192, 128), (288, 256), (512, 512), (576, 512)])
def test_other_head_sizes_are_upstreams(module: Any, kernels: Any, dims: tuple[int, int]) -> None:
    given = inputs(32, 4, dims[0], 0, dims[1])
    before = launched(module, kernels, given)
    with applied([NAME]):
        assert launched(module, kernels, given) == before


@pytest.mark.parametrize("cuda", [(8, 0), (8, 9), (10, 0), (11, 0), (12, 0), None])
def test_other_machines_are_upstreams(
    module: Any, kernels: Any, monkeypatch: pytest.MonkeyPatch, cuda: tuple[int, int] | None
) -> None:
    monkeypatch.setattr(module, "_is_cuda", cuda is not None)
    monkeypatch.setattr(module, "CUDA_CAPABILITY", cuda)
    given = inputs(32, 4)
    before = launched(module, kernels, given)
    with applied([NAME]):
        assert launched(module, kernels, given) == before


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
    from g4diag.hooks.install import Hook, install

    path = f"{module.__name__}._get_block_sizes_for_extend_attention"
    with applied([NAME]), install("another", [Hook(path, "after", lambda sizes, *_: (*sizes[:3], 128, 64, 8))]):
        assert launched(module, kernels, inputs(32, 4)) == (128, 64, 8, 1)


def test_the_stand_in_forwards_and_the_very_kernels_return(module: Any) -> None:
    names = ("_fwd_kernel", "_fwd_kernel_unified", "extend_attention_fwd", "_get_block_sizes_for_extend_attention")
    before = [vars(module)[name] for name in names]
    with applied([NAME]):
        assert isinstance(module._fwd_kernel, Launcher) and module._fwd_kernel.arg_names is before[0].arg_names
        assert not problems()
    assert all(vars(module)[name] is value for name, value in zip(names, before, strict=True))


@pytest.mark.parametrize(("shape", "dim"), [*((shape, 256) for shape in SMALL), ((8, 3, -1, 50), 192)])
def test_the_real_kernel_agrees_with_the_definition_under_every_tile(
    module: Any, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int, int], dim: int
) -> None:
    """GIVEN the real kernel under the Triton interpreter, WHEN launched with our tile, THEN the error is < 2e-3."""
    batch, longest, window, prefix = shape
    given, spy = inputs(batch, longest, dim, prefix), Spy(module._fwd_kernel)
    monkeypatch.setattr(module, "_fwd_kernel", spy)
    wanted = reference(given, window)
    with applied([NAME]):
        module.extend_attention_fwd(**given, sliding_window_size=window)
    assert (given["o_extend"] - wanted).abs().max() / wanted.abs().max() < 2e-3
    assert [tuple(kwargs[name] for name in NAMES) for kwargs in spy.launches] == [SMALL.get(shape, (16, 64, 8, 3))]


def test_the_real_unified_kernel_agrees_too(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given, spy = inputs(8, 4, prefix=30), Spy(module._fwd_kernel_unified)
    monkeypatch.setattr(module, "_fwd_kernel_unified", spy)
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
    assert [Tile(*(kwargs[name] for name in NAMES)) for kwargs in spy.launches] == [_INVARIANT]
    assert (unified["o_extend"] - wanted).abs().max() / wanted.abs().max() < 2e-3


def test_the_form_is_the_one_meant_for_the_installed_release() -> None:
    form = form_for(PATCH)
    assert form is not None and SpecifierSet(form.releases).contains(version_of("sglang") or "", prereleases=True)
