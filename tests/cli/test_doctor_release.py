"""`g4diag doctor --sglang-version RELEASE -- ARGS`: exit codes, and that it needs nothing of the stack."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from g4diag.servers import hardware
from tests.cli.test_inspect import run
from tests.contracts.rules import HEAVY

FLAGS = ("--attention-backend", "trtllm_mha", "--speculative-algorithm", "FROZEN_KV_MTP")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_smi", lambda *_: "")


def test_a_hazard_is_1_and_the_bugs_of_the_release_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "doctor", "--sglang-version", "0.5.13", "--gpu", "sm90", "--", *FLAGS)
    assert (code, err) == (1, "")
    assert out.startswith("KNOWN BAD: g4diag: sglang 0.5.13 with these flags: 1 hazard, ")
    assert "NOTHING WAS LOOKED AT of the sglang, patches or plugin on this machine" in out
    for said in (
        "fatal: trtllm-mha-prefill-arch: trtllm_mha prefill on sm90",
        "known bugs alive in 0.5.13 that these flags meet\n  table-width-draft-tokens: ",
        "known bugs alive in 0.5.13 that these flags do not rule out\n",
        "patches that would apply to 0.5.13, by stated range\n",
        "not told: the model's config.json",
    ):
        assert said in out, said


def test_none_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--sglang-version", "0.5.23", "--gpu", "sm90", "--", *FLAGS)
    assert code == 0 and out.startswith("NO HAZARD ON FILE: g4diag: sglang 0.5.23 with these flags: ")


def test_a_model_known_by_its_name_alone_is_judged_as_doctor_does_here(capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--attention-backend",
        "fa4",
        "--speculative-algorithm",
        "NEXTN",
        "--model-path",
        "google/gemma-4-26b-a4b-it",
    ]
    flags += ["--speculative-draft-model-path", "google/gemma-4-26b-a4b-it-assistant"]
    code, out, _ = run(capsys, "doctor", "--sglang-version", "0.5.23", "--gpu", "sm90", "--", *flags)
    assert code == 4 and out.startswith("INCONCLUSIVE: g4diag: sglang 0.5.23: frozen-draft-fa: known to be bad if")
    assert "  possible: harmful: frozen-draft-fa" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--json", "--sglang-version", "0.5.20", "--gpu", "sm90", "--", *FLAGS)
    found = json.loads(out)
    assert (found["schema"], found["version"], found["exit_code"], code) == ("g4diag.doctor-release", 1, 1, 1)
    assert found["looked_at_here"] is False and found["release"] == "0.5.20"
    assert [row["name"] for row in found["hazards"]] == ["xqa-verify-mask"]
    assert found["bugs"] and found["cures"] and found["unknown"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--sglang-version", "newest", "--", *FLAGS), 2, "wanted a release of sglang such as"),
        (("--sglang-version", "0.5.16"), 2, "found none"),
        (("--sglang-version", "0.5.16", "--gpu", "h100", "--", *FLAGS), 2, "--gpu: wanted"),
        (("--gpu", "sm90", "--", *FLAGS), 2, "--gpu goes with --sglang-version"),
        (("--sglang-version", "0.5.16", "--selftest"), 2, "found both"),
        (("--sglang-version", "0.5.99", "--", *FLAGS), 3, "found 0.5.99"),
    ],
)
def test_what_it_refuses_is_one_line(
    arguments: tuple[str, ...], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(capsys, "doctor", *arguments)
    assert (found, out, err.count("\n")) == (code, "", 1) and says in err


def test_it_works_on_a_laptop(tmp_path: Path) -> None:
    """Without sglang, torch and the rest, and without asking for an installed release."""
    program = f"""
import sys
sys.modules.update(dict.fromkeys({sorted(HEAVY)!r}))
from g4diag.hooks import versions
def none(name):
    raise AssertionError(f"asked for the installed {{name}}")
versions.version_of = none
from g4diag.cli.main import run
sys.exit(run(["doctor", "--sglang-version", "0.5.13", "--gpu", "sm90", "--", *{list(FLAGS)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "") and done.stdout.startswith("KNOWN BAD: ")
