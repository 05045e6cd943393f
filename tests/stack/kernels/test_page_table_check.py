"""The device check judges as the host traps do; here under the Triton interpreter, on the same random tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from g4diag.model import AttentionRead, IndexMapping, IndexSpace, LayerKind, PoolView
from g4diag.stack.kernels.claims import (
    CLAIMED,
    CLAIMS,
    LENGTHS,
    REMAPPED,
    ROWS,
    SLOTS,
    SLOTS_REMAPPED,
    TABLE,
    UNMAPPED,
    WORDS,
    Verdict,
)
from g4diag.stack.kernels.kv_slots_check import check_kv_slots
from g4diag.stack.kernels.page_table_check import InGraph, check_page_table
from g4diag.stack.kernels.verdict import VerdictBox
from g4diag.traps import (
    mapping_is_what_was_handed_out,
    page_in_window_is_mapped,
    page_table_in_layer_space,
    page_table_stays_in_pool,
)

PAGE, FULL_PAGES, SWA_PAGES, COLUMNS = 4, 24, 9, 6
STEP = torch.tensor([7], dtype=torch.int64)


def world(seed: int, rows: int) -> dict[str, torch.Tensor]:
    """A request table of distinct pages, a mapping onto the SWA pool, and lengths."""
    rng = np.random.default_rng(seed)
    full_pages = rng.integers(1, FULL_PAGES, size=(rows + 1, COLUMNS))
    full_pages[0] = 0
    offsets = np.arange(PAGE)
    request_table = (full_pages[:, :, None] * PAGE + offsets).reshape(rows + 1, -1)
    swa_of_page = np.concatenate([[0], rng.integers(1, SWA_PAGES, size=FULL_PAGES - 1)])
    mapping = np.append((swa_of_page[:, None] * PAGE + offsets).reshape(-1), -1)
    return {
        "request_table": torch.tensor(request_table, dtype=torch.int32),
        "mapping": torch.tensor(mapping, dtype=torch.int64),
        "full": torch.tensor(full_pages[1:], dtype=torch.int32),
        "swa": torch.tensor(swa_of_page[full_pages[1:]], dtype=torch.int32),
        "seq_lens": torch.tensor(rng.integers(1, COLUMNS * PAGE + 1, size=rows), dtype=torch.int32),
        "rows": torch.arange(1, rows + 1, dtype=torch.int64),
    }


def checked(
    table: torch.Tensor,
    lens: torch.Tensor,
    rows: torch.Tensor,
    *,
    site: int = 1,
    bound: int = SWA_PAGES,
    window: int = -1,
    queries: int = 1,
    **more: Any,
) -> tuple[VerdictBox, torch.Tensor]:
    """The box of one check of a table, and the table it hands on. more: as `check_page_table` has them."""
    box = VerdictBox()
    sizes = {"site": site, "bound": bound, "page_size": PAGE, "window": window, "queries": queries}
    out = check_page_table(table, lens, rows, box, STEP, **sizes, **more)
    return box, out


def judged_on_device(
    table: torch.Tensor, w: dict[str, torch.Tensor], window: int, queries: int, contain: bool = False
) -> tuple[Verdict | None, torch.Tensor]:
    """The verdict of one check of an SWA layer's table, and the table it hands on."""
    batch = {"request_table": w["request_table"], "mapping": w["mapping"]}
    box, out = checked(table, w["seq_lens"], w["rows"], window=window, queries=queries, contain=contain, **batch)
    return box.read(), out


def as_read(table: torch.Tensor, w: dict[str, torch.Tensor], window: int, queries: int) -> AttentionRead:
    """The same as a view."""
    return AttentionRead(
        step=7,
        worker="draft",
        phase="draft_decode",
        path="graph",
        backend="B",
        layer_id=0,
        layer_kind=LayerKind.SWA,
        window_left=window,
        pool=PoolView("swa", IndexSpace.SWA_PAGE, PAGE, SWA_PAGES),
        table_space=None,
        page_table_BP=table.numpy(),
        seq_lens_B=w["seq_lens"].numpy(),
        q_len=queries,
        full_page_table_BP=w["full"].numpy(),
        mapping=IndexMapping(w["mapping"].numpy(), PAGE),
    )


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 4),
    window=st.sampled_from([-1, 3, 4, 9]),
    queries=st.integers(1, 3),
    faulty=st.booleans(),
)
def test_the_device_counts_what_the_traps_count(seed: int, rows: int, window: int, queries: int, faulty: bool) -> None:
    w = world(seed, rows)
    table = (w["full"] if faulty else w["swa"]).clone()
    read = as_read(table, w, window, queries)
    outside = sum(v.count for v in page_table_stays_in_pool.judge(read))
    wrong = sum(v.count for v in page_table_in_layer_space.judge(read))
    verdict, _ = judged_on_device(table, w, window, queries)
    if not outside and not wrong:
        assert verdict is None
        return
    assert verdict is not None and (verdict.outside, verdict.wrong) == (outside, wrong)
    assert verdict.value == int(table[verdict.row, verdict.column])
    assert verdict.expected == int(w["swa"][verdict.row, verdict.column])
    assert (verdict.bound, verdict.step, verdict.site) == (SWA_PAGES, 7, 1)
    assert verdict.seq_len == int(w["seq_lens"][verdict.row]) and verdict.req_row == verdict.row + 1


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 4),
    window=st.sampled_from([-1, 3, 4, 9]),
    lost=st.sets(st.integers(0, FULL_PAGES - 1), max_size=6),
    remapped=st.sets(st.integers(0, FULL_PAGES - 1), max_size=6),
    negative=st.lists(st.tuples(st.integers(1, 4), st.integers(0, COLUMNS - 1)), max_size=3),
)
def test_the_device_counts_in_graphs_what_the_traps_of_the_mapping_count(
    seed: int, rows: int, window: int, lost: set[int], remapped: set[int], negative: list[tuple[int, int]]
) -> None:
    """Pages that the mapping lost, or that it gives to another; -1 where a page of a request begins."""
    w = world(seed, rows)
    slots = w["mapping"][:-1].view(FULL_PAGES, PAGE)
    handed_out = w["mapping"].clone()
    for page in remapped:
        slots[page] = (slots[page] + PAGE) % (SWA_PAGES * PAGE)
    for page in lost:
        slots[page] = 0
    for row, column in negative:
        if row <= rows:
            w["request_table"][row, column * PAGE] = -1
    full = torch.div(w["request_table"][1:, ::PAGE], PAGE, rounding_mode="floor")
    table = torch.where(full < 0, 0, slots[full.long().clamp(min=0), 0] // PAGE).int()
    w["full"] = full
    batch = {"request_table": w["request_table"], "mapping": w["mapping"]}
    in_graph = InGraph(in_window=True, handed_out=handed_out)
    box, _ = checked(table, w["seq_lens"], w["rows"], window=window, in_graph=in_graph, **batch)
    handed_BP = np.where(full.numpy() < 0, -1, handed_out.numpy()[full.clamp(min=0).numpy() * PAGE] // PAGE)
    read = replace(as_read(table, w, window, 1), handed_out_BP=handed_BP)
    judged = {
        TABLE: page_table_in_layer_space,
        UNMAPPED: page_in_window_is_mapped,
        REMAPPED: mapping_is_what_was_handed_out,
    }
    for claim, trap in judged.items():
        (violation, *_) = [*trap.judge(read), None]
        verdict = box.read(claim)
        assert (violation is None) == (verdict is None)
        if verdict is not None:
            assert verdict.wrong == violation.count
    assert {claim for claim, _ in box.found()} <= set(judged)


def test_what_was_given_back_meanwhile_is_nobodys_in_a_graph() -> None:
    """The request of a table's row may leave while the graph runs: its pages' mapping is 0 by then."""
    w = world(4, 2)
    w["seq_lens"] = torch.full((2,), COLUMNS * PAGE, dtype=torch.int32)
    table = w["swa"].clone()
    freed = int(w["full"][0, 2])
    w["mapping"][:-1].view(FULL_PAGES, PAGE)[freed] = 0
    batch = {"request_table": w["request_table"], "mapping": w["mapping"]}
    for in_window, wrong in ((True, False), (False, True)):
        box, _ = checked(table, w["seq_lens"], w["rows"], in_graph=InGraph(in_window=in_window), **batch)
        assert (box.read() is not None) is wrong


def test_a_verdict_that_is_still_being_written_is_read_later() -> None:
    box = VerdictBox()
    assert box.is_silent()
    box.words_V[0] = 1
    assert box.read() is None and not list(box.found()) and not box.is_silent()
    box.words_V[3] = 0
    assert box.read() is not None


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_box_in_which_any_claim_is_broken_is_not_silent(claim: int) -> None:
    box = VerdictBox()
    box.words_V[claim * len(WORDS) + CLAIMED] = 1
    assert not box.is_silent()
    box.clear()
    assert box.is_silent()


def test_lengths_and_rows_are_held_against_what_the_batch_said() -> None:
    """Two rows a request, and a request of padding, of which nobody told."""
    w = world(2, 3)
    rows, lens = w["rows"].repeat_interleave(2), w["seq_lens"].repeat_interleave(2)
    table = w["swa"].repeat_interleave(2, 0)

    def judged(keys: torch.Tensor, told: torch.Tensor | None, read: torch.Tensor = rows) -> VerdictBox:
        return checked(table, lens, read, window=3, in_graph=InGraph(keys_B=keys, told_rows_B=told))[0]

    keys, told = w["seq_lens"].long(), torch.tensor([1, 2, -1, -1, -1])
    assert not list(judged(keys, told).found()) and not list(judged(keys, None).found())
    other = keys + torch.tensor([0, 5, 5])
    found = judged(other, told)
    verdict = found.read(LENGTHS)
    assert verdict is not None and (verdict.wrong, verdict.row in (2, 3), verdict.column) == (2, True, -1)
    assert (verdict.value, verdict.expected) == (int(keys[1]), int(keys[1]) + 5) and found.read(ROWS) is None
    lengths_alone = judged(other, None).read(LENGTHS)
    assert lengths_alone is not None and lengths_alone.wrong == 4, "no padding where nobody says what is"
    flipped = judged(keys, torch.tensor([2, 1, -1]))
    rows_found = flipped.read(ROWS)
    assert rows_found is not None and rows_found.wrong == 4 and rows_found.value in (1, 2)
    with pytest.raises(ValueError, match="as many rows for each of 4 requests, found 6 rows"):
        judged(torch.ones(4), told)


@pytest.mark.parametrize("tokens", [1, 256, 700])
def test_slots_of_a_write(tokens: int) -> None:
    mapping = torch.cat([torch.tensor([0]), torch.randperm(1000, generator=torch.Generator().manual_seed(1)) + 1])
    mapping = torch.cat([mapping, torch.tensor([-1])])
    own = torch.arange(1, tokens + 1)

    def judged(slots: torch.Tensor, **more: torch.Tensor | None) -> VerdictBox:
        box, given = VerdictBox(), {"own_N": own, "mapping": mapping, "handed_out": mapping.clone()} | more
        check_kv_slots(slots, box, STEP, site=2, bound=1001, **given)
        return box

    swa, last = mapping[own], tokens - 1
    assert not list(judged(swa).found()) and not list(judged(swa.int()).found())
    assert not list(judged(own, mapping=None, handed_out=None).found())
    assert not list(judged(swa, told_N=torch.full((tokens,), -1)).found()), "nobody told of these"
    for wrong, kind in ((-1, "outside"), (1001, "outside"), (int(swa[last]) - 1, "wrong")):
        bad = swa.clone()
        bad[last] = wrong
        found = judged(bad)
        verdict = found.read(SLOTS)
        assert verdict is not None and (verdict.column, verdict.value, verdict.expected) == (
            last,
            wrong,
            int(swa[last]),
        )
        assert (verdict.outside, verdict.wrong) == (int(kind == "outside"), 1) and found.read(SLOTS_REMAPPED) is None
    alone = judged(torch.full((tokens,), 1 << 30), own_N=None, mapping=None, handed_out=None).read(SLOTS)
    assert alone is not None and alone.outside == tokens
    other = mapping.clone()
    other[own[last]] += 1
    remapped = judged(swa, handed_out=other)
    strange = remapped.read(SLOTS_REMAPPED)
    assert strange is not None and strange.column == last and strange.expected == int(swa[last]) + 1
    assert remapped.read(SLOTS) is None
    assert not list(judged(swa, handed_out=torch.full_like(mapping, -2)).found()), "nobody wrote it down"
    lost = mapping.clone()
    lost[own[last]] = 0
    assert not list(judged(swa, mapping=lost).found()), "given back meanwhile"
    apart = {"own_N": torch.stack([own, own + 1], dim=1)[:, 0], "told_N": torch.stack([own, own - 1, own], dim=1)[:, 2]}
    assert not list(judged(torch.stack([swa, -swa], dim=1)[:, 0], **apart).found()), "side by side or not"
    told = own + 1
    assert judged(swa, told_N=told).read(SLOTS) is not None, "the graph's own buffer was not filled"


def test_a_healthy_table_leaves_no_verdict_whatever_its_stale_entries_hold() -> None:
    w = world(3, 3)
    w["seq_lens"] = torch.tensor([9, 12, 5], dtype=torch.int32)
    table = w["swa"].clone()
    for row, seq_len in enumerate(w["seq_lens"].tolist()):
        table[row, (seq_len - 1) // PAGE + 1 :] = 999
        table[row, : max(seq_len - 1 - 3, 0) // PAGE] = -5
    assert judged_on_device(table, w, window=3, queries=1)[0] is None


def test_the_padding_row_of_a_graph_batch_is_not_judged_against_requests() -> None:
    w = world(5, 2)
    w["rows"] = torch.zeros(2, dtype=torch.int64)
    w["seq_lens"] = torch.ones(2, dtype=torch.int32)
    assert judged_on_device(torch.zeros_like(w["swa"]), w, window=3, queries=1)[0] is None


def test_contain_sends_ids_outside_the_pool_to_the_dummy_page_and_changes_nothing_else() -> None:
    w = world(8, 3)
    w["seq_lens"] = torch.full((3,), COLUMNS * PAGE, dtype=torch.int32)
    table = w["swa"].clone()
    table[1, 2], table[2, 5] = SWA_PAGES, -1
    verdict, out = judged_on_device(table, w, window=-1, queries=1, contain=True)
    assert verdict is not None and verdict.outside == 2
    expected = table.clone()
    expected[1, 2] = expected[2, 5] = 0
    # Seen on an H100: with ids past the pool only left of the window, the attention kernel still faulted.
    stale = w["swa"].clone()
    stale[:, 0] = 999
    assert judged_on_device(stale, w, window=3, queries=1, contain=True)[1][:, 0].tolist() == [0, 0, 0]
    assert torch.equal(out, expected) and out.data_ptr() != table.data_ptr()


def test_contain_hands_on_equal_bytes_when_nothing_is_wrong() -> None:
    w = world(9, 3)
    verdict, out = judged_on_device(w["swa"], w, window=4, queries=1, contain=True)
    assert verdict is None and torch.equal(out, w["swa"])


@pytest.mark.parametrize("columns", [1, 127, 128, 129, 300])
def test_tables_wider_than_a_block_are_checked_to_the_last_live_column(columns: int) -> None:
    table = torch.ones((2, columns), dtype=torch.int32)
    table[1, columns - 1] = 50
    lens = torch.full((2,), columns * PAGE, dtype=torch.int32)
    box, _ = checked(table, lens, torch.ones(2, dtype=torch.int64), site=0, bound=50)
    verdict = box.read()
    assert verdict is not None and (verdict.row, verdict.column, verdict.value) == (1, columns - 1, 50)
    box.clear()
    assert box.read() is None
