"""A server that is not installed here, judged by its release: as the hazards and the matrix say, and no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from g4diag.analyzers.matching import known_issues
from g4diag.doctor.elsewhere import check_release
from g4diag.errors import CannotRunError, UsageError
from g4diag.hazards.facts import judge_facts
from g4diag.matrix.cells import matrix
from g4diag.patches.applying import patches
from g4diag.servers import hardware
from tests.contracts import wheels
from tests.matrix.test_cells import MEETS

SPLIT = ("--prefill-attention-backend", "triton", "--decode-attention-backend", "trtllm_mha")
FROZEN = (*("--speculative-draft-model-path", "d"), "--speculative-algorithm", "FROZEN_KV_MTP")
MET = {issue.id: issue.flags for issue in known_issues() if issue.flags}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_smi", lambda *_: "")


@pytest.fixture
def model(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Gemma4ForCausalLM"], "head_dim": 256}))
    return ("--model-path", str(tmp_path))


def names(version: str, arguments: tuple[str, ...], gpu: str = "sm90") -> tuple[set[str], set[str]]:
    """(hazards, bugs that these flags meet)."""
    found = check_release(version, arguments, gpu)
    assert found.release == version and found.exit_code == bool(found.hazards or found.met)
    return {row.name for row in found.hazards}, {row.name for row in found.bugs if row.met}


def test_the_wrappers_bug_is_named_in_each_release_that_has_it(model: tuple[str, ...]) -> None:
    for release in matrix().releases:
        hazards, met = names(release, (*model, *FROZEN, *SPLIT))
        alive = matrix().cell("hybrid-wrapper", release).standing == "alive"  # type: ignore[union-attr]
        assert ("hybrid-draft-backend" in hazards, "hybrid-wrapper" in met) == (alive, alive)


def test_the_bugs_of_0513_are_named_and_those_cured_later_are_not(model: tuple[str, ...]) -> None:
    arguments = (*model, *FROZEN, *SPLIT, "--page-size", "64", "--disable-cuda-graph")
    hazards, met = names("0.5.13", arguments)
    assert hazards == {"hybrid-draft-backend", "eager-draft-out-cache-loc", "xqa-strided-query"}
    assert met == {
        *("hybrid-wrapper", "stale-out-cache-loc", "xqa-strided-query", "free-swa-per-token"),
        *("locked-prefix-freed", "table-width-draft-tokens"),
    }
    hazards, met = names("0.5.23", arguments)
    assert hazards == {"hybrid-draft-backend"} and met >= {"hybrid-wrapper", "table-width-draft-tokens"}
    assert not met & {"stale-out-cache-loc", "xqa-strided-query", "free-swa-per-token", "locked-prefix-freed"}


def test_a_bug_that_is_not_told_is_listed_with_what_would_tell() -> None:
    found = check_release("0.5.13", ("--attention-backend", "trtllm_mha"))
    rows = {row.name: row for row in found.bugs}
    assert found.exit_code == 4 and not rows["xqa-strided-query"].met
    assert rows["xqa-strided-query"].missing == ("the model's config.json", "the GPU")
    assert "hybrid-wrapper" in found.ruled_out, "no draft, no wrapper"
    assert not rows["refused-decode-keeps-page"].met and rows["refused-decode-keeps-page"].missing


def test_each_alive_bug_is_told_once_and_what_nobody_looked_at_is_said() -> None:
    for release in matrix().releases:
        found = check_release(release, ("--attention-backend", "triton"))
        told = [row.name for row in found.bugs] + list(found.ruled_out)
        assert sorted(told) == sorted(b for b in matrix().bugs if _standing(b, release) == "alive")
        assert set(found.unknown) == {
            b for b in matrix().bugs if _standing(b, release) in (None, "unknown", "cannot run")
        }


def _standing(bug: str, release: str) -> str | None:
    found = matrix().cell(bug, release)
    return found.standing if found else None


@pytest.mark.parametrize(("bug", "hazard", "server"), [row for row in MEETS if row[0] in MET])
def test_a_server_that_meets_a_hazard_meets_its_bug(bug: str, hazard: str, server: object) -> None:
    assert judge_facts(MET[bug], server)[0] == "met", hazard  # type: ignore[arg-type]


@pytest.mark.parametrize("release", wheels.RELEASES)
def test_the_cures_are_those_that_would_apply_to_the_wheel(release: str) -> None:
    """What the stated range says and what the wheel's text says are one, or upstream has the cure by now."""
    from g4diag.patches.contract import fit

    told = {row.name for row in check_release(release, ("--attention-backend", "triton")).cures}
    fits = {name: fit(patch, wheels.wheel(release)).state for name, patch in patches().items() if patch.kind == "cure"}
    assert (
        told and {name for name, state in fits.items() if state == "available" and not patches()[name].partial} == told
    )


def test_a_cure_of_a_hazard_is_named_as_one(model: tuple[str, ...]) -> None:
    found = check_release("0.5.16", (*model, *FROZEN, *SPLIT), "sm90")
    assert {row.name: row.for_these for row in found.cures}["hybrid-wrapper-pool-swap"] == ("hybrid-draft-backend",)


@pytest.mark.parametrize("version", ["newest", "", "0.5.x", "0.5.13 or so"])
def test_no_version_is_a_usage_error(version: str) -> None:
    with pytest.raises(UsageError, match="wanted a release of sglang such as"):
        check_release(version, ("--attention-backend", "triton"))


@pytest.mark.parametrize("version", ["0.5.24", "0.5.12", "1.0", "0.5.13.dev7"])
def test_a_release_that_nobody_knows_cannot_be_judged(version: str) -> None:
    with pytest.raises(CannotRunError, match=r"wanted a release that is known here, 0\.5\.12\.post1, .*; found "):
        check_release(version, ("--attention-backend", "triton"))


def test_arguments_and_a_gpu_that_is_one_are_wanted() -> None:
    with pytest.raises(UsageError, match="found none"):
        check_release("0.5.16", ())
    for gpu in ("h100", "90", "sm9", "sm1234"):
        with pytest.raises(UsageError, match="--gpu: wanted one such as sm90"):
            check_release("0.5.16", ("--attention-backend", "triton"), gpu)


def test_this_machines_gpu_is_taken_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_smi", lambda *_: "NVIDIA H100 80GB HBM3, 9.0, 580.00\n")
    found = check_release("0.5.16", ("--attention-backend", "trtllm_mha"))
    assert found.gpu == "sm90" and "this machine's" in found.gpu_is
    assert {row.name for row in found.hazards} == {"trtllm-mha-prefill-arch"}
    assert check_release("0.5.16", ("--attention-backend", "trtllm_mha"), "SM120").gpu == "sm120"
