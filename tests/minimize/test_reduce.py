"""One minimisation: with made-up runs its budget, memory and refusals; with the real classes a small one to its end."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.errors import PatchRefused, UsageError, VacuousError
from g4diag.minimize.case import Runner, running
from g4diag.minimize.reduce import reduce, state_file
from g4diag.model.reduction import Case, Sizes, Target
from g4diag.scenario import State
from g4diag.stack.drive.serving import Geometry

SIGNATURE = "g4d1:page_table_stays_in_pool:swa-page:swa:trtllm_mha:draft_decode"
SILENT = Case("", "", (), None, checked=9, divergent=3)
BROKEN = Case(SIGNATURE, "ERROR: it broke", ("page_table_stays_in_pool",), 2, checked=9, divergent=3)
SIZES = asdict(Geometry())
TARGET = Target("trtllm-mha-swa", "faulty", "upstream", 0, SIGNATURE, ("faulty-rule",), SIZES, "the scenario")
NO_LIMIT = 1e6


class Runs:
    """Breaks at three requests of 400 tokens and more; what sglang raises, at 500 pages and fewer."""

    def __init__(self, ends: int = 10**6) -> None:
        self.faulty, self.ends = 0, ends

    def __call__(self, state: State, sizes: Sizes, seed: int, until: str) -> Case:
        if state.name == "upstream":
            return SILENT
        self.faulty += 1
        if self.faulty > self.ends:
            raise KeyboardInterrupt
        if sizes["full_tokens"] <= 500 * 16:
            raise RuntimeError("out of memory")
        return BROKEN if sizes["requests"] >= 3 and sizes["prompt"] >= 400 else SILENT


def test_the_smallest_is_found_and_nothing_but_its_test_is_left(tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "test_it.py"
    found = reduce(TARGET, Runs(), out=out, seconds=NO_LIMIT, resume=False, say=lambda line, smaller: said.append(line))
    after = found.after
    assert (after["requests"], after["prompt"], after["full_tokens"]) == (3, 400, 501 * 16)
    assert (found.stopped, found.exit_code, found.state_file, found.known) == ("", 0, None, 0)
    assert found.tried > found.smaller > 5 and any("requests 6 -> 3" in line for line in said)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("ends", [0, 1, 7, 20])
def test_interrupted_it_leaves_the_best_so_far_and_goes_on_from_there(ends: int, tmp_path: Path) -> None:
    out, whole = tmp_path / "test_it.py", tmp_path / "test_whole.py"
    cut = Runs(ends)
    if ends == 0:
        with pytest.raises(KeyboardInterrupt):
            reduce(TARGET, cut, out=out, seconds=NO_LIMIT, resume=False)
    else:
        stops = reduce(TARGET, cut, out=out, seconds=NO_LIMIT, resume=False)
        assert (stops.stopped, stops.exit_code, stops.state_file) == ("interrupted", 130, state_file(out))
        assert repr(stops.after["prompt"]) in out.read_text()
    rest, once = Runs(), Runs()
    goes_on = reduce(TARGET, rest, out=out, seconds=NO_LIMIT, resume=True)
    at_once = reduce(TARGET, once, out=whole, seconds=NO_LIMIT, resume=False)
    assert goes_on.after == at_once.after and out.read_text() == whole.read_text()
    assert goes_on.known == max(ends, 0) and rest.faulty == once.faulty - ends


def test_the_budget_ends_it_with_a_case_all_the_same(tmp_path: Path) -> None:
    out = tmp_path / "test_it.py"
    found = reduce(TARGET, Runs(), out=out, seconds=-1, resume=False)
    assert (found.stopped, found.exit_code, found.after["requests"]) == ("out of time", 0, 6)
    assert found.state_file is not None and found.state_file.is_file() and out.is_file()


def test_what_is_not_there_or_not_silent_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "test_it.py"
    for run in (lambda *_: SILENT, lambda *_: BROKEN):
        with pytest.raises(VacuousError, match="found it otherwise"):
            reduce(TARGET, run, out=out, seconds=NO_LIMIT, resume=False)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_ours_is_no_answer(tmp_path: Path) -> None:
    def refused(*_: object) -> Case:
        raise PatchRefused("faulty-rule", "a line", "another")

    with pytest.raises(PatchRefused):
        reduce(TARGET, refused, out=tmp_path / "test_it.py", seconds=NO_LIMIT, resume=False)


def test_a_persons_file_is_not_written_over(tmp_path: Path) -> None:
    out = tmp_path / "mine.py"
    out.write_text("import this\n")
    for place in (out, tmp_path / "nowhere" / "test_it.py"):
        with pytest.raises(UsageError, match="--out"):
            reduce(TARGET, Runs(), out=place, seconds=NO_LIMIT, resume=False)
    assert out.read_text() == "import this\n"


@pytest.fixture(scope="module")
def run() -> Iterator[Runner]:
    with running() as runner:
        yield runner


def test_on_the_real_classes_the_smallest_case_is_named_and_its_cure_is_silent(run: Runner, tmp_path: Path) -> None:
    small = {"full_tokens": 112, "ratio": 0.58, "window": 2, "chunk": 16, "prompt": 60, "requests": 3, "live": 1}
    sizes = SIZES | small | {"steps_per_admission": 1, "draft_steps": 2}
    out = tmp_path / "test_it.py"
    found = reduce(replace(TARGET, sizes=sizes), run, out=out, seconds=NO_LIMIT, resume=False)
    assert not found.stopped and found.smaller > 0 and found.after["draft_steps"] == 1
    assert found.broken.signature == SIGNATURE and "past the last of" in found.broken.line
    assert found.sound.checked > 0 and found.sound.divergent > 0
    tests = {name: value for name, value in runpy.run_path(str(out)).items() if name.startswith("test_")}
    assert len(tests) == 2
    for test in tests.values():
        test()
