"""The picture of a page table: states, cut, buckets, and the worst entry of a bucket."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings

from g4diag.analyzers.table_map import ANALYZER
from g4diag.model import Incident
from tests import samples, strategies


def test_every_state_is_told_apart() -> None:
    table = samples.mapping().swa_pages(samples.full_pages())[None].astype(np.int32)
    table[0, 60:63] = [188, 7, -1]
    (finding,) = ANALYZER.analyze(samples.incident(samples.faulty_read(page_table_BP=table)))
    data = finding.data
    assert finding.is_defect and (data["first_column"], data["rows"]) == (57, ["...>w<."])
    assert {sign: n for sign, n in data["counts"].items() if n} == {".": 61, ">": 1, "w": 1, "<": 1}
    assert [cell["value"] for cell in data["cells"]] == [188, -1, 7], "the worst first"
    assert data["cells"][0] | {"meaning": ""} == {
        "row": 0,
        "column": 60,
        "first_position": 3840,
        "value": 188,
        "expected": 100,
        "meaning": "",
        "owner": "r7",
    }


def test_a_healthy_read_is_one_calm_picture() -> None:
    (finding,) = ANALYZER.analyze(samples.incident(samples.healthy_read(), samples.healthy_read()))
    assert not finding.is_defect and finding.data["rows"] == ["...ooo."]
    assert finding.text == "0 of 3 live entries of layer 4 are wrong; the table has 64 columns"


def test_without_a_full_table_only_bounds_are_judged() -> None:
    (finding,) = ANALYZER.analyze(samples.incident(samples.faulty_read(full_page_table_BP=None)))
    assert finding.data["rows"] == ["...>>>."] and finding.data["cells"][0]["expected"] is None
    (calm,) = ANALYZER.analyze(samples.incident(samples.healthy_read(full_page_table_BP=None)))
    assert calm.data["rows"] == ["...???."] and "3 cannot be judged" in calm.text


def test_a_large_table_is_bucketed_and_the_worst_entry_wins() -> None:
    rows, columns = 200, 1000
    full = np.full((rows, columns), 128, dtype=np.int64)
    table = np.full((rows, columns), 40, dtype=np.int32)
    table[150, 777] = 9999
    lens = np.full(rows, columns * samples.PAGE, dtype=np.int32)
    read = samples.healthy_read(
        page_table_BP=table, full_page_table_BP=full, seq_lens_B=lens, window_left=-1, rids=(), req_rows_B=None
    )
    (finding,) = ANALYZER.analyze(samples.incident(read))
    data = finding.data
    assert (len(data["rows"]), len(data["rows"][0])) == (50, 125) and len(data["cells"]) == 4000
    assert (data["rows_a_cell"], data["columns_a_cell"], data["left_out_cells"]) == (4, 8, 50 * 125 - 4000)
    assert "".join(data["rows"]).count(">") == 1 and data["rows"][150 // 4][777 // 8] == ">"
    assert (data["cells"][0]["row"], data["cells"][0]["column"]) == (150, 777)
    assert data["counts"][">"] == 1 and data["counts"]["o"] == rows * columns - 1


def test_only_the_first_bad_reads_are_drawn() -> None:
    reads = [samples.faulty_read(step=step) for step in range(6)]
    findings = list(ANALYZER.analyze(samples.incident(samples.healthy_read(), *reads)))
    assert [finding.data["step"] for finding in findings] == [0, 1, 2, 3]
    assert {finding.data["left_out_reads"] for finding in findings} == {2}


@settings(max_examples=30, deadline=None)
@given(strategies.incidents)
def test_any_incident_gives_plain_values(incident: Incident) -> None:
    for finding in ANALYZER.analyze(incident):
        json.dumps(finding.data, allow_nan=False)
        assert sum(finding.data["counts"].values()) == finding.data["table_rows"] * finding.data["table_columns"]
