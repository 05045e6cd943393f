"""Which states apply, and what is expected of them, by what is in the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from g4diag.errors import VacuousError
from g4diag.patches import contract
from g4diag.patches.applying import patches
from g4diag.scenario import Drive, Found, Line, State, Where
from g4diag.scenario.applicable import applicable, missing, too_early
from g4diag.scenario.driving import driven

SOURCE = "one = 1\ntwo = 2\ndef three():\n    return one + two\n"


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "g4made.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))


def line(text: str) -> Line:
    return ("g4made", text)


ONE, TWO, GONE = (line("one = 1"),), (line("two = 2"),), (line("four"),)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ((), "silent"),
        ((Where(ONE, "first"),), "first"),
        ((Where(GONE, "first"),), "silent"),
        ((Where(GONE, "first"), Where(TWO, "second"), Where(ONE, "third")), "second"),
        ((Where((*ONE, *GONE), "first"),), "silent"),
        ((Where(ONE, "first", without=TWO),), "silent"),
        ((Where(ONE, "first", without=GONE),), "first"),
    ],
)
def test_a_drive_is_expected_to_do_what_its_source_does(where: tuple[Where, ...], expected: str) -> None:
    ((found,), left_out) = applicable("made", [Drive("upstream", "", where=where)])
    assert (found.expected, left_out) == (expected, ())


def test_a_state_has_an_outcome_for_each_path() -> None:
    here = Where(ONE, "raises KeyError", "eager")
    ((found,), _) = applicable("made", [State("upstream", "", (), "equal", "equal", where=(here,))])
    assert (found.eager, found.graph) == ("raises KeyError", "equal")
    ((found,), _) = applicable("made", [State("upstream", "", (), "equal", "equal", where=(Where(ONE, "faults"),))])
    assert (found.eager, found.graph) == ("faults", "faults")


def test_a_state_whose_hooks_have_no_place_is_left_out_and_says_why() -> None:
    found, left_out = applicable("made", [Drive("upstream", ""), Drive("cure", "", lines=(*ONE, *GONE))])
    assert [state.name for state in found] == ["upstream"]
    ((name, why),) = [(each.state, each.why) for each in left_out]
    assert name == "cure" and why == "wanted 'four' once in g4made, found 'four' occurs 0 times in g4made"


def unfit(name: str, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """The installed sglang is one that this patch does not fit."""
    from dataclasses import replace

    from g4diag.scenario import applicable as module

    made = replace(patches()[name], **changes)
    monkeypatch.setattr(module, "patches", lambda: patches() | {name: made})


def test_a_state_whose_patch_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [
        State("upstream", "", (), "equal", "equal"),
        State("clamp", "", ("faulty-rule", "clamp"), "wrong", "wrong"),
    ]
    assert applicable("made", states)[1] == ()
    gone = contract.Anchor("g4made", "no such line")
    unfit("clamp", monkeypatch, anchors=(gone,), forms=(), hooks=tuple)
    found, left_out = applicable("made", states)
    assert [state.name for state in found] == ["upstream"]
    assert left_out[0].why.startswith("patch clamp, wanted 'no such line' once in g4made, found")


def test_a_state_whose_patch_is_for_other_releases_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    unfit("clamp", monkeypatch, releases="<0.5")
    (left_out,) = applicable("made", [Drive("upstream", ""), Drive("clamp", "", ("clamp",))])[1]
    assert left_out.why.startswith("patch clamp, wanted sglang <0.5, found sglang ")


def test_nothing_that_applies_is_vacuous() -> None:
    with pytest.raises(VacuousError, match="made: vacuous: no state applies here: cure: wanted 'four' once in g4made"):
        applicable("made", [Drive("cure", "", lines=GONE)])


def test_a_line_counts_only_where_it_is_once() -> None:
    assert missing(ONE) == "" and "occurs 2 times" in missing([line("one")])


@pytest.mark.parametrize(
    ("since", "before", "says"),
    [(ONE, GONE, ""), (GONE, (), "wanted 'four'"), ((), TWO, "'two = 2' is still in g4made")],
)
def test_a_release_may_be_older_than_the_bug(since: tuple[Line, ...], before: tuple[Line, ...], says: str) -> None:
    drives = (Drive("upstream", ""),)
    made = driven(lambda: Found(1, 0), name="made", symptom="", upstream="", drives=drives, since=since, before=before)
    assert says in too_early(made) and (too_early(made) == "") == (says == "")
