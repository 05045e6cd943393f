"""The mapping as points: states, buckets, and plain values."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings

from g4diag.analyzers.mapping_map import ANALYZER
from g4diag.model import Incident, IndexMapping, IndexSpace, PoolView
from tests import samples, strategies


def mapped(*swa_pages: int, free: tuple[int, ...] = ()) -> Incident:
    """Full page n+1 is the n-th of these SWA pages, pages of one slot; 0 is unmapped."""
    slots = np.array([0, *swa_pages, -1])
    full = PoolView("full", IndexSpace.FULL_PAGE, 1, len(slots) - 1, np.array(free, dtype=np.int64))
    return Incident("x", pools=(full,), mapping=IndexMapping(slots, 1))


def test_every_state_is_told_apart() -> None:
    (finding,) = ANALYZER.analyze(mapped(1, 7, 0, 0, 5, 6, 6, free=(4, 5)))
    assert finding.data["points"] == {
        "unmapped": {"full": [3], "swa": [0]},
        "same number": {"full": [1], "swa": [1]},
        "another number": {"full": [2], "swa": [7]},
        "mapped, yet free": {"full": [5], "swa": [5]},
        "shared SWA page": {"full": [6, 7], "swa": [6, 6]},
    }
    assert finding.data["counts"]["unmapped and free"] == 1
    assert finding.text.startswith("5 of 7 full pages have an SWA page, 2 of them under another number; mapped, yet")


def test_the_sample() -> None:
    (finding,) = ANALYZER.analyze(samples.faulty_incident())
    assert (finding.data["full_pages"], finding.data["swa_num_pages"]) == (1024, 154)
    assert finding.data["counts"]["another number"] == samples.COLUMNS and finding.data["pages_a_point"] == 1


def test_a_large_mapping_is_bucketed_and_the_oddest_page_wins() -> None:
    pages = list(range(1, 10001))
    pages[5000] = 3
    (finding,) = ANALYZER.analyze(mapped(*pages))
    shown = [page for points in finding.data["points"].values() for page in points["full"]]
    assert len(shown) == 2000 and finding.data["pages_a_point"] == 5
    assert finding.data["points"]["shared SWA page"] == {"full": [3, 5001], "swa": [3, 3]}
    assert finding.data["counts"]["same number"] == 9998


def test_nothing_without_a_mapping() -> None:
    assert not list(ANALYZER.analyze(Incident("x")))
    assert not list(ANALYZER.analyze(mapped())), "the dummy alone"
    assert not list(ANALYZER.analyze(Incident("x", mapping=IndexMapping(np.zeros(18, dtype=np.int64), 16))))


@settings(max_examples=30, deadline=None)
@given(strategies.incidents)
def test_any_incident_gives_plain_values(incident: Incident) -> None:
    for finding in ANALYZER.analyze(incident):
        json.dumps(finding.data, allow_nan=False)
        assert sum(finding.data["counts"].values()) == finding.data["full_pages"]
