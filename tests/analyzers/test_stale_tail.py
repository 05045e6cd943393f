"""Ids that no query reads are legal: they convict nobody, and are mentioned."""

from __future__ import annotations

import numpy as np

from g4diag.analyzers import inspect_incident
from g4diag.analyzers.stale_tail import analyze
from g4diag.model import Outcome
from tests import samples


def test_a_stale_tail_is_told_and_not_convicted() -> None:
    read = samples.healthy_read()
    read.page_table_BP[0, samples.LAST + 1] = samples.SWA_PAGES + 40
    (finding,) = analyze(samples.incident(read))
    assert finding.text.startswith("1 ids in 1 rows of layer 4 are outside its pool of 154 pages, all of them where no")
    assert inspect_incident(samples.incident(read), "x").outcome is Outcome.HEALTHY


def test_nothing_is_said_of_a_healthy_table_or_beside_a_live_one() -> None:
    read = samples.healthy_read()
    assert not list(analyze(samples.incident(read)))
    read.page_table_BP[0, [samples.LAST, samples.LAST + 1]] = np.int32(samples.SWA_PAGES + 40)
    assert not list(analyze(samples.incident(read))), "the live one is the verdict's"
