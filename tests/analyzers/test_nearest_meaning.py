"""A bad id is explained by what it is in the other space, graded by how that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from g4diag.analyzers.cross_space import meaning_of, sentence
from g4diag.analyzers.nearest_meaning import ANALYZER
from g4diag.model import AttentionRead, Grade, Incident, IndexSpace, LayerKind, RequestView
from tests import samples

AT = (0, samples.LAST)


def explained(read: AttentionRead, incident: Incident) -> str:
    meaning = meaning_of(read, *AT, incident)
    return f"{meaning.grade}: {sentence(meaning)}"


def with_value(value: int, **changes: object) -> AttentionRead:
    read = samples.faulty_read(**changes)
    read.page_table_BP[AT] = value
    return read


def test_own_page() -> None:
    read = samples.faulty_read()
    wanted = "190 as a full page is this request's own page for positions 3968..4031; its SWA page is 102"
    assert explained(read, samples.incident(read)) == f"measured: {wanted}"


def test_without_a_label_it_is_derived_from_the_owner() -> None:
    read = samples.faulty_read(table_space=None, full_page_table_BP=None)
    assert explained(read, samples.incident(read)).startswith("derived: 190 as a full page is this request's own")


def test_another_requests_page() -> None:
    other = RequestView("r9", 1, 640, np.arange(300, 310))
    read = with_value(303)
    told = explained(read, samples.incident(read, requests=(*samples.incident().requests, other)))
    assert told == "measured: 303 as a full page is a page of request r9 for positions 192..255"


def test_free_page() -> None:
    read = with_value(600, table_space=None)
    told = explained(read, samples.incident(read))
    assert told == "guess: 600 as a full page is on the free list; the entry serves positions 3968..4031"


def test_a_clamped_id_has_no_meaning() -> None:
    read = with_value(153, is_clamped=True)
    told = explained(read, samples.incident(read))
    assert told == "derived: 153 is the last page of the pool, where the clamp puts every id past the end"


def test_nothing_known() -> None:
    read = with_value(600, table_space=None, full_page_table_BP=None, mapping=None)
    told = explained(read, Incident("fork-page-table", reads=(read,)))
    assert told == "guess: 600 as a full page is of unrecorded owner; the entry serves positions 3968..4031"


def test_mirror_an_swa_id_handed_to_a_full_layer() -> None:
    read = samples.healthy_read(pool=samples.full_pool(), layer_kind=LayerKind.FULL, window_left=-1)
    meaning = meaning_of(read, *AT, samples.incident(read))
    assert meaning.space is IndexSpace.SWA_PAGE and meaning.other == 190 and meaning.is_own
    assert meaning.grade is Grade.MEASURED


def test_entries_are_limited_and_counted() -> None:
    read = samples.faulty_read(window_left=-1)
    (finding,) = ANALYZER.analyze(samples.incident(read))
    assert len(finding.data["entries"]) == 8 and finding.data["left_out"] == samples.LAST + 1 - 8
    assert finding.data["entries"][0]["value"] == 128 and finding.data["entries"][0]["past_the_end"] is None
    reads = [replace(read, step=step) for step in range(10)]
    findings = list(ANALYZER.analyze(samples.incident(*reads)))
    assert len(findings) == 4 and findings[0].data["left_out_reads"] == 6


def test_healthy_reads_have_nothing_to_explain() -> None:
    assert not list(ANALYZER.analyze(samples.incident(samples.healthy_read())))
