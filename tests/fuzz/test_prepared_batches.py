"""A batch that is prepared before a request of it leaves is filtered as sglang does it, and named where it is not."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.fuzz.machines.backend_metadata import MACHINE, BackendMachine
from g4diag.fuzz.session import Broken, opened
from g4diag.hooks.install import Hook, install
from tests.fuzz.test_backend import START
from tests.rediscovery import sabotage

ROOMY = START | {"pages": (12, 12), "others": 0}
MEANWHILE = ("nothing", "hand_row_over", "leave")


def _two(state: Any, is_draft: bool, meanwhile: str) -> None:
    state.start(**ROOMY)
    state.admit(lengths=[20, 5])
    state.prepare_and_run(is_draft=is_draft, meanwhile=meanwhile, which=0, length=7)
    state.holds()


@pytest.mark.parametrize("is_draft", [False, True], ids=["target", "draft"])
@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_healthy_sglang_is_silent(is_draft: bool, meanwhile: str) -> None:
    with opened(MACHINE) as session:
        state = BackendMachine()
        _two(state, is_draft, meanwhile)
        assert state.reached["prepared_draft" if is_draft else "prepared_target"] == 1
        assert state.reached.get("prepared_anew", 0) == (meanwhile != "nothing")
        assert state.reached.get("row_recycled_under_prepared", 0) == (meanwhile == "hand_row_over")
        assert session.judged["request_row_is_of_its_request"]


def test_one_that_lost_all_is_never_read() -> None:
    with opened(MACHINE):
        state = BackendMachine()
        state.start(**ROOMY)
        state.admit(lengths=[20])
        read = state.reached["extend_eager"]
        state.prepare_and_run(is_draft=False, meanwhile="leave", which=0, length=1)
        assert state.reached["prepared_dropped"] == 1
        assert state.reached["extend_eager"] == read and "decode_eager" not in state.reached


@pytest.mark.parametrize("is_draft", [False, True], ids=["target", "draft"])
@pytest.mark.parametrize(("meanwhile", "says"), [("hand_row_over", r"is r[35]'s now"), ("leave", "is nobody's now")])
def test_a_filter_that_keeps_those_who_left_is_named(is_draft: bool, meanwhile: str, says: str) -> None:
    fault = Hook(sabotage.FILTER, "around", sabotage.keeps_those_who_left)
    with install("test", [fault]), opened(MACHINE):
        _two(BackendMachine(), is_draft, "nothing")
        with pytest.raises(Broken, match=rf"^request_row_is_of_its_request: row 0 of the batch is r1's.*{says}"):
            _two(BackendMachine(), is_draft, meanwhile)
