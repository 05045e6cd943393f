"""The pool table and the divergence of the two numberings."""

from __future__ import annotations

import numpy as np

from g4diag.analyzers.pools import ANALYZER, divergence
from g4diag.model import IndexMapping
from tests import samples


def test_use_and_divergence() -> None:
    full, swa, spaces = ANALYZER.analyze(samples.incident(samples.healthy_read()))
    assert (full.data["num_pages"], full.data["use"]) == (1025, 0.5)
    assert (swa.data["num_pages"], swa.data["use"]) == (154, round(1 - 20 / 153, 4))
    assert spaces.data == {"mapped_pages": 64, "divergent_pages": 64, "unit": "page"}


def test_identity_has_no_divergence() -> None:
    slots = np.append(np.arange(10 * 64), -1)
    assert divergence(IndexMapping(slots, 64)) == (9, 0), "page 0 is the dummy"


def test_empty_mapping() -> None:
    assert divergence(IndexMapping(np.array([-1]), 64)) == (0, 0)
