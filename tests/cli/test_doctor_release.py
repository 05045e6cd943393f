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


@pytest.fixture
def model(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "config.json").write_text('{"architectures": ["Gemma4ForCausalLM"], "head_dim": 256}')
    return "--model-path", str(tmp_path)


def test_none_is_0_where_all_was_judged(model: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--sglang-version", "0.5.23", "--gpu", "sm90", "--", "--attention-backend", "triton")
    code, out, _ = run(capsys, "doctor", *asked, *model)
    assert code == 0 and out.startswith("NO HAZARD ON FILE: g4diag: sglang 0.5.23 with these flags: no known bug ")
    assert "to judge the rest" not in out and "known-bad combinations\n  none found\n" in out


def test_what_no_fact_tells_is_not_called_free_of_hazards(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--sglang-version", "0.5.18", "--", "--attention-backend", "trtllm_mha")
    code, out, _ = run(capsys, "doctor", *asked)
    first, second, third = out.splitlines()[:3]
    assert code == 4 and first.startswith("INCONCLUSIVE: g4diag: sglang 0.5.18: ")
    assert first.endswith(" hazards could not be judged") and second.startswith("  judged: ")
    assert third == "  to judge the rest, give --gpu, such as sm90; after --: --model-path FOLDER with its config.json"
    assert "not judged, for want of the GPU: trtllm-mha-arch, trtllm-mha-prefill-arch\n" in out


def test_a_known_bug_that_is_met_is_1_and_no_clean_bill(
    model: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--sglang-version", "0.5.23", "--gpu", "sm90", "--", *FLAGS, "--speculative-draft-model-path", "d")
    for further, untold in ((model, 0), ((), 1)):
        code, out, _ = run(capsys, "doctor", *asked, *further)
        first = out.splitlines()[0]
        assert code == 1
        assert first.startswith("KNOWN BUG MET: g4diag: sglang 0.5.23 with these flags: table-width-draft-tokens")
        assert first.endswith("could not be judged") == bool(untold)


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
