"""A strip keeps the worst sign of every bucket."""

from __future__ import annotations

from g4diag.report.strip import bad_strips, legend_line, squeeze

LEGEND = {".": "not live", "o": "right page", "?": "not judged", "w": "wrong page", "<": "before", ">": "past the end"}


def picture(*rows: str, tall: int = 1) -> dict[str, object]:
    return {"legend": LEGEND, "rows": list(rows), "rows_a_cell": tall}


def test_only_bad_rows_are_shown() -> None:
    assert bad_strips(picture("..oo", "..o>", "?w??"), 9) == [("1", "..o>"), ("2", "?w??")]
    assert bad_strips(picture("..o>", "?w??"), 1) == [("0", "..o>")]
    assert bad_strips(picture("oo", "ow", tall=4), 9) == [("4..7", "ow")]


def test_the_worst_of_a_bucket_stands_for_it() -> None:
    assert squeeze("..oow>..", list(LEGEND), 4) == ".o>."
    assert squeeze("abc"[:0], list(LEGEND), 4) == ""
    assert len(squeeze("o" * 4096, list(LEGEND), 64)) == 64


def test_the_legend_names_the_signs_that_occur() -> None:
    assert legend_line(picture(), [".o>"]) == ". not live   o right page   > past the end"
