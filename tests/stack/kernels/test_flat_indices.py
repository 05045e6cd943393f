"""The device check of flat slots judges as the host traps do, under the Triton interpreter, on the same random rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from g4diag.model import AttentionRead, IndexMapping, IndexSpace, LayerKind, PoolView
from g4diag.stack.kernels.claims import Verdict
from g4diag.stack.kernels.page_table_check import check_page_table
from g4diag.stack.kernels.verdict import VerdictBox
from g4diag.stack.probes.page_table import laid_out
from g4diag.traps import page_table_in_layer_space, page_table_stays_in_pool

FULL, SWA, WIDTH = 96, 36, 24
STEP = torch.tensor([7], dtype=torch.int64)


class World:
    """Rows of slots, a mapping onto a smaller pool, and what a backend hands: each row's last `window` keys."""

    def __init__(self, seed: int, rows: int, window: int) -> None:
        rng = np.random.default_rng(seed)
        self.request_table = rng.integers(1, FULL, size=(rows + 1, WIDTH))
        self.mapping = np.concatenate([[0], rng.integers(1, SWA, size=FULL - 1), [-1]])
        self.keys_B = rng.integers(1, WIDTH + 1, size=rows)
        self.first_B = np.maximum(self.keys_B - window, 0) if window > 0 else np.zeros(rows, dtype=np.int64)
        self.full = [self.request_table[r + 1, self.first_B[r] : self.keys_B[r]] for r in range(rows)]
        self.indptr_B1 = np.concatenate([[0], np.cumsum([len(row) for row in self.full])])
        self.flat = self.mapping[np.concatenate(self.full)]
        self.is_clipped = window > 0

    def on_device(self, contain: bool = False, spare: int = 5) -> tuple[Verdict | None, torch.Tensor]:
        """The verdict of one check, and the indices it hands on. spare: entries of the buffer that no row has."""
        box = VerdictBox()
        flat = torch.tensor(np.concatenate([self.flat, np.full(spare, 1 << 40)]))
        out = check_page_table(
            flat,
            torch.tensor(self.keys_B),
            torch.arange(1, len(self.keys_B) + 1),
            box,
            STEP,
            site=1,
            bound=SWA,
            page_size=1,
            window=WIDTH,
            queries=1,
            request_table=torch.tensor(self.request_table, dtype=torch.int32),
            mapping=torch.tensor(self.mapping),
            contain=contain,
            indptr_B1=torch.tensor(self.indptr_B1, dtype=torch.int32),
            clipped=self.is_clipped,
        )
        return box.read(), out

    def as_read(self) -> AttentionRead:
        """The same as a view."""
        table_BP, lens_B, first_B = laid_out(
            torch.tensor(self.flat), torch.tensor(self.keys_B), torch.tensor(self.indptr_B1), self.is_clipped
        )
        full_BP = np.zeros_like(table_BP, dtype=np.int64)
        for row, slots in enumerate(self.full):
            full_BP[row, : len(slots)] = slots
        return AttentionRead(
            step=7,
            worker="target",
            phase="decode",
            path="graph",
            backend="B",
            layer_id=0,
            layer_kind=LayerKind.SWA,
            window_left=WIDTH,
            pool=PoolView("swa", IndexSpace.SWA_SLOT, 1, SWA),
            table_space=None,
            page_table_BP=table_BP,
            seq_lens_B=lens_B,
            full_page_table_BP=full_BP,
            mapping=IndexMapping(self.mapping, 1),
            first_B=first_B,
        )


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.sampled_from([0, 1, 5, WIDTH]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(-3, FULL + 3)), max_size=3),
)
def test_device_and_host_agree(seed: int, rows: int, window: int, bad: list[tuple[int, int]]) -> None:
    world = World(seed, rows, window)
    for at, value in bad:
        world.flat[at % len(world.flat)] = value
    read = world.as_read()
    outside = list(page_table_stays_in_pool.TRAP.judge(read))
    wrong = [v for v in page_table_in_layer_space.TRAP.judge(read) if v.count]
    verdict, out = world.on_device()
    assert out.shape[0] == len(world.flat) + 5
    if verdict is None:
        assert not outside and not wrong
        return
    assert verdict.outside == sum(v.count or 0 for v in outside)
    assert verdict.wrong == sum(v.count or 0 for v in wrong)
    assert verdict.value == read.page_table_BP[verdict.row, verdict.column]


def test_a_healthy_world_is_not_empty() -> None:
    read = World(3, 4, 5).as_read()
    assert read.live_BP().sum() > 10 and read.first_B is not None and (read.first_B > 0).any()


def test_contain_hands_on_the_same_rows_with_the_dummy_where_an_id_is_outside() -> None:
    world = World(5, 3, 5)
    world.flat[2], world.flat[4] = SWA, -1
    verdict, out = world.on_device(contain=True)
    assert verdict is not None and verdict.outside == 2
    kept = np.where((world.flat >= 0) & (world.flat < SWA), world.flat, 0)
    assert out[: len(kept)].tolist() == kept.tolist()


@pytest.mark.parametrize("broken", [[0, 1 << 20], [-5, 3], [1 << 20, 1 << 21], [3, 1]])
def test_a_broken_indptr_leads_nowhere_past_the_buffer(broken: list[int]) -> None:
    world = World(5, 1, 0)
    world.indptr_B1 = np.array(broken)
    world.on_device(contain=True)
