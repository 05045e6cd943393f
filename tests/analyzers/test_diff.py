"""Two dumps part where they were made to part, and the faulty side is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from g4diag.analyzers.diff import Comparison, Likeness, compare, diff_files
from g4diag.errors import UsageError
from g4diag.model import Allocation, Incident
from tests import samples

NAMES = ("a.pt", "b.pt")


def clean() -> Incident:
    return samples.incident(samples.healthy_read())


def said(comparison: Comparison, subject: str) -> str:
    return next((finding.text for finding in comparison.findings if finding.subject == subject), "")


def test_a_dump_is_like_itself() -> None:
    comparison = compare(samples.faulty_incident(), samples.faulty_incident(), NAMES)
    assert comparison.likeness is Likeness.SAME and comparison.compared > 3


def test_the_wrong_side_is_named() -> None:
    for left, right, side in (
        (clean(), samples.faulty_incident(), "second"),
        (samples.faulty_incident(), clean(), "first"),
    ):
        comparison = compare(left, right, NAMES)
        assert comparison.likeness is Likeness.DIFFER
        text = comparison.findings[0].text
        assert text.startswith("layer 4 (swa), step 12, row 0 column 60: page ") and f"the {side} file is wrong" in text
        assert "188 is past its 154 pages, 100 belongs there" in text
        wrong = NAMES[side == "second"]
        assert said(comparison, "verdict").startswith(f"{wrong} is the faulty one: ERROR: g4diag: ")


def test_a_one_sided_error_goes_before_another_number() -> None:
    moved = samples.mapping()
    moved.full_to_swa_M[188 * 64 : 189 * 64] += 64 * 30
    pages = moved.swa_pages(samples.full_pages())[None].astype(np.int32)
    right = samples.healthy_read(mapping=moved, page_table_BP=pages)
    comparison = compare(clean(), samples.incident(right, mapping=moved), NAMES)
    assert comparison.findings[0].data["wrong"] is None and "page 100 against 130" in comparison.findings[0].text
    assert said(comparison, "mapping").startswith(
        f"full slot {188 * 64} is SWA slot {100 * 64} against {130 * 64}; 64 of"
    )
    right.page_table_BP[0, samples.LAST] = 7
    comparison = compare(clean(), samples.incident(right, mapping=moved), NAMES)
    assert comparison.findings[0].data["wrong"] == 1 and f"column {samples.LAST}" in comparison.findings[0].text


def test_steps_that_do_not_meet_are_said() -> None:
    other = samples.incident(samples.healthy_read(step=99))
    assert compare(clean(), other, NAMES).likeness is Likeness.SAME
    wrong = samples.incident(samples.faulty_read(step=99))
    assert "steps 12 and 99" in compare(clean(), wrong, NAMES).findings[0].text


def test_rows_meet_by_request() -> None:
    read = samples.healthy_read()
    padded = replace(
        read,
        page_table_BP=np.vstack([np.zeros_like(read.page_table_BP), read.page_table_BP]),
        full_page_table_BP=np.vstack([read.full_page_table_BP] * 2),
        seq_lens_B=np.array([1, samples.SEQ_LEN], dtype=np.int32),
        rids=("r1", "r7"),
        req_rows_B=None,
        window_left=-1,
    )
    comparison = compare(samples.incident(replace(read, window_left=-1)), samples.incident(padded), NAMES)
    assert not said(comparison, "table")


def test_manifest_versions_and_pools() -> None:
    pools = (replace(samples.full_pool(), num_pages=2050), samples.swa_pool())
    other = replace(clean(), versions={"sglang": "0.5.23"}, manifest={"faults": []}, pools=pools)
    comparison = compare(clean(), other, NAMES)
    assert said(comparison, "versions") == "sglang: 0.5.13 against 0.5.23"
    assert "faults: faulty-rule against none" in [finding.text for finding in comparison.findings]
    assert said(comparison, "pools").startswith("full pool: 1025 pages of 64 tokens against 2050 of 64")


def test_allocations() -> None:
    one, two = (
        Incident("g4diag", allocations=(Allocation("alloc", samples.swa_pool(), np.array([64, 65, last])),))
        for last in (66, 70)
    )
    comparison = compare(one, two, NAMES)
    assert said(comparison, "allocation") == "allocation 1, id 2: slot 66 against 70" and comparison.compared == 3


def test_nothing_in_common_is_not_comparable() -> None:
    assert compare(Incident("a"), Incident("b"), NAMES).likeness is Likeness.NOT_COMPARABLE
    other = replace(clean(), reads=(samples.healthy_read(layer_id=5),), mapping=None)
    other = replace(other, reads=tuple(replace(read, mapping=None) for read in other.reads))
    assert compare(clean(), other, NAMES).likeness is Likeness.NOT_COMPARABLE


def test_two_files_are_wanted() -> None:
    with pytest.raises(UsageError, match="wanted two files, found 1"):
        diff_files([Path("x")])
