"""Every lie about a field is refused by the field's name."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from g4diag.dump.codecs import At, Int, Record, Tagged
from g4diag.dump.schema import RECORDS, from_document, to_document
from g4diag.errors import UnsafeInputError
from g4diag.model import VIEWS, by_field
from tests import samples

GOOD = to_document(samples.faulty_incident())


def put(document: Any, path: tuple[str | int, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "lie", "named"),
    [
        (("version",), 4, "version"),
        (("version",), True, "version"),
        (("version",), "1", "version"),
        (("origin",), 7, "origin"),
        (("origin",), "x" * 5000, "origin"),
        (("reads",), {}, "reads"),
        (("reads",), [None] * 2000, "reads"),
        (("reads", 0), [], "reads[0]"),
        (("reads", 1, "step"), 1.5, "reads[1].step"),
        (("reads", 1, "layer_id"), -2, "reads[1].layer_id"),
        (("reads", 1, "layer_kind"), "banana", "reads[1].layer_kind"),
        (("reads", 1, "layer_kind"), ["swa"], "reads[1].layer_kind"),
        (("reads", 1, "is_clamped"), 0, "reads[1].is_clamped"),
        (("reads", 1, "pool", "page_size"), 0, "reads[1].pool.page_size"),
        (("reads", 1, "pool", "page_size"), 1 << 90, "reads[1].pool.page_size"),
        (("reads", 1, "pool", "num_pages"), 0, "reads[1].pool.num_pages"),
        (("reads", 1, "page_table_BP"), [[1]], "reads[1].page_table_BP"),
        (("reads", 1, "page_table_BP"), np.zeros((1, 64), np.float32), "reads[1].page_table_BP"),
        (("reads", 1, "page_table_BP"), np.zeros(64, np.int32), "reads[1].page_table_BP"),
        (("reads", 1, "page_table_BP"), np.zeros((0, 1 << 30), np.int32), "reads[1].page_table_BP"),
        (("reads", 1, "seq_lens_B"), np.zeros(2, np.int32), "reads[1].seq_lens_B"),
        (("reads", 1, "req_rows_B"), np.zeros(2, np.int32), "reads[1].req_rows_B"),
        (("reads", 1, "full_page_table_BP"), np.zeros((1, 3), np.int32), "reads[1].full_page_table_BP"),
        (("reads", 1, "rids"), ["a", "b"], "reads[1].rids"),
        (("reads", 1, "rids"), "r7", "reads[1].rids"),
        (("mapping", "full_to_swa_M"), np.zeros(0, np.int32), "mapping.full_to_swa_M"),
        (("swaps", 0, "before"), ["a"], "swaps[0].before"),
        (("notes", 0), ["surely", "x"], "notes[0][0]"),
        (("manifest",), [], "manifest"),
        (("manifest", "faults"), "x", "manifest.'faults'"),
        (("context", "seed"), float("nan"), "context.'seed'"),
        (("context", "seed"), 1 << 64, "context.'seed'"),
        (("context", "seed"), np.zeros(1), "context.'seed'"),
        (("truncated_reads",), -1, "truncated_reads"),
        (("ring",), [{"seq": 1, "time_ns": 1, "kind": 7}], "ring[0].kind"),
    ],
)
def test_lie_is_named(path: tuple[str | int, ...], lie: Any, named: str) -> None:
    document = copy.deepcopy(GOOD)
    put(document, path, lie)
    with pytest.raises(UnsafeInputError, match=r"wanted .*, found ") as refusal:
        from_document(document)
    assert str(refusal.value).startswith(f"{named}: ") and "\n" not in str(refusal.value)


def test_missing_field_is_named() -> None:
    document = copy.deepcopy(GOOD)
    del document["reads"][0]["seq_lens_B"]
    with pytest.raises(UnsafeInputError, match=r"reads\[0\].seq_lens_B: wanted this field"):
        from_document(document)


def test_a_later_release_may_add_fields() -> None:
    document = copy.deepcopy(GOOD)
    document["new"] = document["reads"][0]["new"] = [1]
    del document["reads"][0]["q_len"], document["truncated_reads"]
    assert samples.same(from_document(document), samples.faulty_incident())


def test_version_1_is_still_read() -> None:
    document = copy.deepcopy(GOOD) | {"version": 1}
    del document["ring"]
    assert samples.same(from_document(document), samples.faulty_incident())


def test_nested_sharing_does_not_explode() -> None:
    bomb: Any = [0] * 1000
    for _ in range(6):
        bomb = [bomb] * 1000
    cycle: dict[str, Any] = {}
    cycle["again"] = cycle
    for value in (bomb, cycle):
        with pytest.raises(UnsafeInputError, match="plain value"):
            from_document({**GOOD, "context": {"x": value}})


def test_a_new_kind_of_view_is_a_class_and_a_record() -> None:
    """It needs no field of its own in an incident, nor a line in a reader or a writer."""

    @dataclass(frozen=True)
    class Made:
        KIND: ClassVar[str] = "made_up"
        rows: int

    tagged = Tagged({"made_up": Record(Made, {"rows": Int(0)})})
    assert by_field([Made(3)]) == {"others": (Made(3),)}  # type: ignore[list-item]
    packed = tagged.pack(Made(3))
    assert packed == {"kind": "made_up", "rows": 3} and tagged.unpack(packed, At()) == Made(3)
    for bad in ({"kind": "unheard of", "rows": 3}, {"rows": 3}, 7):
        with pytest.raises(UnsafeInputError, match="kind is one of made_up"):
            tagged.unpack(bad, At())


def test_every_kind_of_view_has_a_record() -> None:
    assert {kind.KIND for kind in VIEWS} == set(RECORDS)
