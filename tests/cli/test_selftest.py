"""`g4diag doctor --selftest`: every trap is broken once; one that sleeps, or a wrong one that wakes, is exit 1."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from g4diag.discover import contributions
from g4diag.model import Release
from g4diag.model.doctor import Selftest, SelftestRow
from g4diag.report import selftest_text
from g4diag.selftests.contract import Break
from tests.cli.test_inspect import run

ROW = SelftestRow("a", "it was broken", fired=("a", "b"), companions=("b",), checked=(3, 4))
TRAPS = {found.name for found in contributions("g4diag.traps", "TRAP")}
BREAKS = contributions("g4diag.selftests", "SELFTEST")


def test_every_trap_is_broken_and_companions_are_traps() -> None:
    assert {found.name for found in BREAKS} == TRAPS
    for found in BREAKS:
        assert isinstance(found.value, Break) and found.value.name == found.name
        assert set(found.value.companions) <= TRAPS - {found.name} and found.value.how.endswith(".")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (ROW, ""),
        (replace(ROW, fired=("b",)), "did not fire: a"),
        (replace(ROW, fired=("a",)), "did not fire: b"),
        (replace(ROW, fired=("a", "b", "c")), "fired too: c"),
        (replace(ROW, early=("c",)), "fired on healthy sglang: c"),
        (replace(ROW, vacuous=True), "the healthy run had nothing to judge"),
        (replace(ROW, error="nothing breaks it"), "nothing breaks it"),
    ],
)
def test_anything_but_its_own_trap_alone_is_exit_1(row: SelftestRow, problem: str) -> None:
    found = Selftest((row,), {})
    assert (row.problem, found.exit_code) == (problem, bool(problem))
    console = Console(width=160, file=StringIO())
    selftest_text.render(found, console)
    text = console.file.getvalue()
    assert text.startswith("FAILED" if problem else "PASSED") and problem in text


def test_nothing_put_to_the_test_is_no_success() -> None:
    assert Selftest((), {}).exit_code == 1


def test_it_goes_with_no_arguments_of_sglangs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "doctor", "--selftest", "--", "--model", "x")
    assert (code, out) == (2, "") and "found both" in err


def test_without_sglang_is_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from g4diag.hooks import versions

    monkeypatch.setattr(versions, "version_of", lambda name: None)
    code, out, err = run(capsys, "doctor", "--selftest")
    assert (code, out) == (3, "") and "pip install '.[stack]'" in err and err.count("\n") == 1


def test_each_trap_wakes_and_alone(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sglang")
    code, out, _ = run(capsys, "doctor", "--selftest", "--json")
    document = json.loads(out)
    assert (document["schema"], document["exit_code"], code) == ("g4diag.selftest", 0, 0)
    assert {row["trap"] for row in document["rows"]} == TRAPS
    for row in document["rows"]:
        assert row["fired"] == sorted([row["trap"], *row["companions"]]) and not row["fired_healthy"]
        assert row["checked"]["broken"] > 0


def test_a_broken_selftest_is_a_row_and_not_a_traceback() -> None:
    """A drive that raises, and one whose break does nothing."""
    pytest.importorskip("sglang")
    from g4diag.doctor import selftest as runner
    from g4diag.scenario.seen import Seen

    def raises(broken: bool) -> None:
        raise ValueError("no such thing")

    raised = runner.put_to_the_test(Break("a", "It raises.", raises), Release, Seen())
    slept = runner.put_to_the_test(Break("a", "It does nothing.", lambda broken: None), Release, Seen())
    assert raised.problem == "ValueError: no such thing"
    assert slept.problem == "the healthy run had nothing to judge"
