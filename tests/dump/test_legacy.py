"""The fork pyc96/sglang's two kinds: believed in what they measured, not in what they concluded."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from g4diag.analyzers import Inspection, Outcome, inspect_file
from g4diag.dump.reader import read_dump
from g4diag.errors import UnsafeInputError
from g4diag.model import Grade, IndexSpace, LayerKind
from tests.samples import same

DUMPS = Path(__file__).parents[2] / "dumps"
MAKE = runpy.run_path(str(DUMPS / "make_legacy.py"))


def saved(document: dict[str, Any], folder: Path) -> Path:
    torch.save(document, folder / "x.pt")
    return folder / "x.pt"


def judged(document: dict[str, Any], folder: Path) -> Inspection:
    return inspect_file(saved(document, folder))


def test_page_table() -> None:
    incident = read_dump(DUMPS / "legacy-page-table.pt")
    (read,) = incident.reads
    assert read.layer_kind is LayerKind.SWA and read.pool.space is IndexSpace.SWA_PAGE and read.window_left == 512
    assert (read.pool.num_pages, read.pool.page_size, read.layer_id, read.phase) == (8657, 64, 22, "decode")
    lies = [text for grade, text in incident.notes if grade is Grade.DERIVED and "is_swa_layer" in text]
    assert lies and "False" in lies[0]


def test_full_layer_is_judged_without_a_window(tmp_path: Path) -> None:
    document = MAKE["page_table"]() | {"sliding_window": -1}
    (read,) = read_dump(saved(document, tmp_path)).reads
    assert read.layer_kind is LayerKind.FULL and read.live_BP()[0, 0]


def test_stale_entries_left_of_the_window_are_clean(tmp_path: Path) -> None:
    document = MAKE["page_table"]()
    document["page_table"] = torch.where(document["page_table"] >= 8657, 8656, document["page_table"])
    document["page_table"][0, 0] = 99999
    assert judged(document, tmp_path).outcome is Outcome.HEALTHY


@pytest.mark.parametrize(
    ("field", "lie"),
    [
        ("page_table", torch.zeros(3)),
        ("cache_seqlens_int32", torch.zeros(3, dtype=torch.int32)),
        ("k_cache_shape", [8657, 8, 64]),
        ("k_cache_shape", "no"),
        ("num_pages_in_cache", 9000),
        ("page_size", 32),
        ("page_size", None),
        ("sliding_window", "512"),
        ("layer_id", -3),
        ("forward_mode", 2),
        ("is_swa_layer", 1),
    ],
)
def test_page_table_lies(field: str, lie: Any, tmp_path: Path) -> None:
    with pytest.raises(UnsafeInputError, match=f"x.pt: {field}: wanted .*, found "):
        read_dump(saved(MAKE["page_table"]() | {field: lie}, tmp_path))


@pytest.mark.parametrize(
    ("field", "lie"),
    [
        ("alloc_swa_indices", [1, 2]),
        ("swa_pool_size", 65),
        ("page_size", 0),
        ("ctx", "free"),
        ("oob_count", -1),
        ("swa_max_value_returned", 1.5),
    ],
)
def test_allocator_lies(field: str, lie: Any, tmp_path: Path) -> None:
    document = MAKE["allocator"](torch.arange(64, 80), "alloc_decode") | {field: lie}
    with pytest.raises(UnsafeInputError, match=f"x.pt: {field}: wanted .*, found "):
        read_dump(saved(document, tmp_path))


def test_allocator_verdicts() -> None:
    assert inspect_file(DUMPS / "legacy-allocator.pt").outcome is Outcome.ERROR
    assert inspect_file(DUMPS / "legacy-allocator-last-page.pt").outcome is Outcome.HEALTHY


def test_contradiction_is_a_note(tmp_path: Path) -> None:
    document = MAKE["allocator"](torch.arange(64, 80), "alloc_decode") | {"swa_max_value_returned": 1 << 30}
    assert any("swa_max_value_returned says" in text for _, text in read_dump(saved(document, tmp_path)).notes)


def test_no_indices_is_inconclusive(tmp_path: Path) -> None:
    document = MAKE["allocator"](torch.arange(64, 80), "alloc_decode")
    document["alloc_swa_indices"] = torch.zeros(0, dtype=torch.int64)
    assert judged(document, tmp_path).outcome is Outcome.INCONCLUSIVE


def test_the_samples_are_what_the_script_writes(tmp_path: Path) -> None:
    MAKE["main"](tmp_path)
    for path in tmp_path.iterdir():
        assert same(read_dump(path), read_dump(DUMPS / path.name))


def test_foreign_dict_is_not_ours(tmp_path: Path) -> None:
    with pytest.raises(UnsafeInputError, match=r"not ours: .* 'state_dict'"):
        read_dump(saved({"state_dict": {"w": torch.ones(2)}}, tmp_path))
