"""Each injected fault again, live, on the installed release: what fires is what its truth says, and its twin is silent.

What no trap sees is asserted too: a trap that comes to see it must be told in the truth, by tools/injected_faults.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sglang")

from g4diag import guard
from g4diag.dump.reader import read_dump
from g4diag.hooks.versions import version_of
from g4diag.model import AttentionRead
from tests import samples
from tests.injected.catalogue import FAULTS
from tests.injected.record import both, offline
from tests.injected.truth import FOLDER, truths
from tests.injected.watching import Watched, watched

RELEASE = version_of("sglang")
TRUTHS = {row.fault: row for row in truths() if row.release == RELEASE}
pytestmark = pytest.mark.skipif(not TRUTHS, reason=f"nothing was recorded on sglang {RELEASE}")


@pytest.fixture(scope="module")
def live() -> Iterator[Watched]:
    before = guard.set_raising(True)
    with watched() as armed:
        yield armed
    guard.set_raising(before)


def test_every_fault_has_its_truth() -> None:
    assert set(TRUTHS) == {name for name, fault in FAULTS.items() if not fault.lacks()}


@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_what_fires_is_what_the_truth_says_and_the_twin_is_silent(name: str, live: Watched) -> None:
    fault, truth = FAULTS[name], TRUTHS[name]
    broken, healthy = both(fault, live)
    assert broken.fired == truth.live, "run tools/injected_faults.py on each release"
    assert offline(broken.incidents.values()) == truth.offline
    assert healthy.fired == () and offline(healthy.incidents.values()) == ()
    assert len(broken.views) == truth.judged > 0 and healthy.views
    assert any(type(view) is type(broken.bad) for view in healthy.views), "the twin shows the traps as much"
    assert fault.harmless or not samples.same(_read_of(broken.bad), _read_of(healthy.bad)), "the fault does something"
    assert fault.harmless <= (not broken.fired)


def _read_of(view: Any) -> Any:
    """The view without table entries that no kernel looks at: later releases leave those as they found them."""
    if not isinstance(view, AttentionRead):
        return view
    return replace(view, page_table_BP=np.where(view.live_BP(), view.page_table_BP, 0))


@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_the_truth_is_what_the_fault_declares(name: str) -> None:
    fault, truth = FAULTS[name], TRUTHS[name]
    declared = (fault.cause, fault.issue, fault.must_not, fault.threads, fault.harmless)
    assert declared == (truth.the_cause, truth.issue, truth.must_not, truth.threads, truth.harmless)
    assert offline([read_dump(FOLDER / dump) for dump in truth.dumps]) == truth.offline
