"""Each way of handing over a wrong table is told from the others, and told only where it is clear."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from g4diag.analyzers.index_space import analyze
from g4diag.dump.reader import read_dump
from g4diag.model import AttentionRead, Incident, IndexSpace, LayerKind
from tests import samples
from tests.cli.test_inspect import DUMPS

PAGES = samples.mapping().swa_pages(samples.full_pages())[None]


def with_table(table: Any, **changes: Any) -> AttentionRead:
    return samples.healthy_read(page_table_BP=table.astype(np.int32), window_left=-1, table_space=None, **changes)


def of_rows(*tables: Any) -> AttentionRead:
    """Two requests; the second one's pages are the first's reversed."""
    full = np.stack([samples.full_pages(), samples.full_pages()[::-1]])
    lens = np.full(2, samples.SEQ_LEN, dtype=np.int32)
    return with_table(np.stack(tables), full_page_table_BP=full, seq_lens_B=lens, rids=("r7", "r8"), req_rows_B=None)


def tail() -> Any:
    table = PAGES.copy()
    table[0, 30:] = np.random.default_rng(0).permutation(table[0, 30:]) + 3
    return table


def full_layer() -> AttentionRead:
    changes = {"pool": samples.full_pool(), "layer_kind": LayerKind.FULL, "table_space": None}
    return samples.healthy_read(window_left=-1, **changes)


@pytest.mark.parametrize(
    ("read", "wanted"),
    [
        (with_table(samples.full_pages()[None]), "full-ids"),
        (full_layer(), "swa-ids"),
        (with_table(np.minimum(samples.full_pages()[None], samples.SWA_PAGES - 1)), "clamp"),
        (with_table(PAGES * samples.PAGE), "slots"),
        (with_table(PAGES * 4096), "byte-offset"),
        (with_table(np.roll(PAGES, -1, axis=1)), "shifted"),
        (of_rows(PAGES[0, ::-1], PAGES[0]), "other-row"),
        (with_table(tail()), "stale-tail"),
        (with_table(np.random.default_rng(1).integers(200, 900, PAGES.shape)), None),
    ],
    ids=["full-ids", "swa-ids", "clamp", "slots", "byte-offset", "shifted", "other-row", "stale-tail", "cannot-tell"],
)
def test_each_way_is_named(read: AttentionRead, wanted: str | None) -> None:
    (finding,) = analyze(samples.incident(read))
    assert finding.data["winner"] == wanted, finding.text
    assert finding.text.startswith("cannot tell") == (wanted is None)


def test_an_earlier_steps_table_is_told() -> None:
    table = PAGES.copy()
    table[0, 10:40] = np.arange(30)[::-1] + 100
    earlier = with_table(table, step=11)
    findings = list(analyze(samples.incident(earlier, replace(earlier, step=12))))
    assert findings[-1].data["winner"] == "earlier-step" and "step 11" in findings[-1].text


def test_the_numbers_stand_behind_every_reading() -> None:
    (finding,) = analyze(samples.incident(samples.faulty_read(window_left=-1)))
    best, *others = finding.data["hypotheses"]
    assert (best["name"], best["explained"], best["of"]) == ("full-ids", samples.LAST + 1, samples.LAST + 1)
    assert all(other["bad"] < best["bad"] for other in others)


def test_a_legacy_dump_is_an_inference_from_bound_window_and_geometry() -> None:
    (finding,) = analyze(read_dump(DUMPS / "legacy-page-table.pt"))
    assert finding.data["winner"] == "full-ids" and finding.data["inferred"]
    for said in ("inferred", "18 ids are past the 8657 pages", "173 of 173 entries left of the window are filled"):
        assert said in finding.text


def test_zeros_left_of_the_window_speak_against_full_ids() -> None:
    (read,) = read_dump(DUMPS / "legacy-page-table.pt").reads
    table = read.page_table_BP * read.live_BP()
    (finding,) = analyze(Incident("fork-page-table", reads=(replace(read, page_table_BP=table),)))
    assert finding.data["winner"] is None


@pytest.mark.parametrize("space", [None, IndexSpace.SWA_PAGE])
def test_a_healthy_table_needs_no_explaining(space: IndexSpace | None) -> None:
    assert not list(analyze(samples.incident(samples.healthy_read(table_space=space))))
