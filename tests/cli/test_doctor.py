"""`g4diag doctor`: healthy is 0, a known-bad command line or a hidden plugin is 1, no sglang is 3."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.specifiers import SpecifierSet

from g4diag.doctor import examine, flag_check, plugin_state
from g4diag.servers import hardware
from tests.cli.test_inspect import run
from tests.contracts.test_start import imported
from tests.releases import unlike

pytest.importorskip("sglang")

SPECULATIVE = ("--speculative-algorithm", "NEXTN", "--prefill-att", "triton", "--decode-att", "trtllm_mha")
RELEASE = metadata.version("sglang")
# XQA gets packed queries for a draft since 0.5.16, so the cure is wanted only before.
STRIDED = ["xqa-strided-query"] if RELEASE in SpecifierSet("<0.5.16") else []
SMI = {
    (): "| NVIDIA-SMI 580.00   Driver Version: 580.00   CUDA Version: 13.0     |",
    ("--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"): "NVIDIA H100 80GB HBM3, 9.0, 580.00\n",
}


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_smi", lambda *arguments: SMI[arguments])


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for sglang's own parser, which takes some 6 s and which test_flag_check asks: it takes everything."""
    said = json.dumps({"unknown": [], "refused": ""})
    program = (sys.executable, "-c", f"import sys; open(sys.argv[1], 'w').write({said!r})")
    monkeypatch.setattr(flag_check, "check", partial(flag_check.check, program=program))


@pytest.fixture
def asked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """sglang's own parser, asked in this process: test_flag_check asks it in the child, which takes some 6 s."""

    def run(command: Sequence[str], **_: object) -> None:
        assert tuple(command[: len(flag_check.PROGRAM)]) == flag_check.PROGRAM
        file, *arguments = command[len(flag_check.PROGRAM) :]
        flag_check.main(Path(file), arguments)

    monkeypatch.setattr(flag_check, "subprocess", SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, ...]:
    """Flags naming a Gemma-4 target and its assistant, both on this machine."""
    given: list[str] = []
    for flag, architecture in (
        ("--model", "Gemma4ForConditionalGeneration"),
        ("--speculative-draft-model-path", "Gemma4AssistantForCausalLM"),
    ):
        folder = tmp_path / architecture
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"architectures": [architecture], "head_dim": 256}))
        given += [flag, str(folder)]
    return tuple(given)


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict]:
    code, out, err = run(capsys, "doctor", "--json", *arguments)
    assert not err
    found = json.loads(out)
    assert (found["schema"], found["version"], found["exit_code"]) == ("g4diag.doctor", 1, code)
    return code, found


def test_healthy_is_0(h100: None, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(capsys)
    assert code == 0 and not found["problems"] and not found["judged"]
    assert set(found["versions"]) >= {"sglang", "torch", "triton", "flashinfer-python", "sglang-kernel"}
    assert found["gpus"] == [{"name": "NVIDIA H100 80GB HBM3", "capability": "9.0", "driver": "580.00", "arch": "sm90"}]
    assert found["cuda"]["driver"] == "13.0" and found["plugin"]["loads"]
    rows = {row["name"]: (row["prefill"], row["decode"]) for row in found["backends"]}
    assert rows["trtllm_mha"] == (found["versions"]["sglang"] not in SpecifierSet("<0.5.19"), True)
    assert rows["triton"] == (True, True)
    assert found["traps"] and {"faulty-rule", "clamp"} <= set(found["faults"])


def test_text(h100: None, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor")
    head, then = out.splitlines()[:2]
    assert head.startswith(f"HEALTHY: g4diag: the installation, sglang {RELEASE} ") and "no server's flags" in head
    assert then == "  to judge them: g4diag doctor -- SGLANG-ARGUMENTS, or g4diag doctor LOG"
    assert code == 0 and "page_table_stays_in_pool" not in out
    heads = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert heads[1:-1] == ["known-bad combinations", "machine", "versions", "plugin"] and heads[-1].startswith("-v ")
    code, out, _ = run(capsys, "doctor", "-v")
    installed = metadata.version("sglang")
    for said in (
        "NVIDIA H100 80GB HBM3 sm90",
        f"sglang {installed}",
        "FAULTS put a bug back",
        "page_table_stays_in_pool: ",
    ):
        assert said in out


def test_a_known_bad_command_line_is_1_and_its_cure_is_0(
    h100: None, parsed: None, pair: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = doctor(capsys, "--", *pair, *SPECULATIVE)
    assert code == 1 and [row["name"] for row in found["hazards"]] == ["hybrid-draft-backend", *STRIDED]
    named = ("--speculative-draft-attention-backend", "triton")
    found = doctor(capsys, "--", *pair, *SPECULATIVE, *named)[1]
    assert not found["hazards"] and not found["open"]
    assert found["exit_code"] == bool(found["bugs"]) == bool(found["problems"])
    out = run(capsys, "doctor", "--", *pair, *SPECULATIVE)[1]
    assert out.startswith("UNHEALTHY: ") and f"--patches {','.join(['hybrid-wrapper-pool-swap', *STRIDED])} | " in out


def test_each_models_config_is_read_once(
    h100: None,
    parsed: None,
    pair: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    read, asked = examine.model_config, list[str | None]()
    monkeypatch.setattr(examine, "model_config", lambda path, environ: (asked.append(path), read(path, environ))[1])
    doctor(capsys, "--", *pair)
    assert len(asked) == len(set(asked)) == 2 and None not in asked


def test_a_flag_that_sglang_does_not_know_is_1_and_told_first(
    h100: None, asked_here: None, pair: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = doctor(capsys, "--", *pair, *SPECULATIVE, "--pagesize", "64")
    assert code == 1 and found["flags"]["unknown"] == [{"name": "--pagesize", "nearest": "--page-size"}]
    first = found["problems"][0]
    assert first == "--pagesize: sglang's own parser does not know it, and ends the server; did you mean --page-size"
    assert [row["name"] for row in found["hazards"]] == ["hybrid-draft-backend", *STRIDED]


def test_a_value_that_sglang_refuses_is_1_and_the_foot_agrees_with_the_head(
    h100: None, asked_here: None, pair: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "doctor", "--", *pair, "--disable-radix-cache", "--page-size", "large")
    head, first = out.splitlines()[:2]
    assert code == 1 and head == "UNHEALTHY: g4diag: 1 problem" and "invalid int value: 'large'" in first
    assert "\n  none found in what sglang's parser takes; what it does not take ends the server" in out


def test_flags_that_could_not_be_checked_are_no_healthy_command_line(
    h100: None, pair: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = (sys.executable, "-c", "import no_such_module")
    monkeypatch.setattr(flag_check, "check", partial(flag_check.check, program=broken))
    out = run(capsys, "doctor", "--", *pair, "--disable-radix-cache", "--no-such-flag", "1")[1]
    assert out.startswith("HEALTHY AS FAR AS JUDGED: ") and "flags were not checked: " in out.splitlines()[0]


def test_what_cannot_be_told_is_said(
    parsed: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_smi", lambda *_: "")
    code, found = doctor(capsys, "--", "--model", "org/unseen", *SPECULATIVE)
    assert code == (1 if found["bugs"] else 4) and len(found["remarks"]) == 3 and found["gpus"] == []
    assert "swa-ratio-moe" in {row["name"] for row in found["open"]}
    assert "without --speculative-draft-model-path" in found["remarks"][1]
    assert found["remarks"][0] == (
        "--model-path org/unseen: no config.json of it on this machine, so checks of this model were not made;"
        " a folder with its config.json makes them"
    )
    out = run(capsys, "doctor", "--", "--model", "org/unseen", "--attention-backend", "trtllm_mha")[1]
    assert out.startswith("INCONCLUSIVE: g4diag: ") and "none found" not in out
    assert "\n  to judge the rest, give the server's GPU: " in out


@pytest.mark.parametrize(
    ("variables", "why"),
    [({"SGLANG_PLUGINS": "other"}, "SGLANG_PLUGINS leaves it out"), ({"SGLANG_PLUGINS": "other,g4diag"}, "")],
)
def test_a_shadowed_plugin_is_1(
    variables: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    code, found = doctor(capsys)
    assert code == bool(why) and why in found["plugin"]["why"] and found["plugin"]["loads"] == (not why)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([], "not installed"),
        ([("g4diag", "other:main")], "wanted g4diag.plugin:register, found other:main"),
        ([("g4diag", "g4diag.plugin:register"), ("x", "y:z")], ""),
    ],
)
def test_a_plugin_that_is_not_ours_or_not_there(
    entries: list[tuple[str, str]], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [metadata.EntryPoint(name, value, plugin_state.GROUP) for name, value in entries]
    monkeypatch.setattr(plugin_state.metadata, "entry_points", lambda group: found)
    state = plugin_state.plugin_state({})
    assert state.loads == (not why) and why in state.why


@pytest.mark.parametrize("release", [None, "0.5.11"])
def test_no_sglang_or_another_is_3(
    parsed: None, release: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unlike(monkeypatch, release)
    monkeypatch.setattr(examine, "version_of", lambda name: release)
    code, found = doctor(capsys, "--", "--model", "x")
    assert code == 3 and " to 0.5." in found["cannot_run"] and f"found {release or 'none'}" in found["cannot_run"]
    out = run(capsys, "doctor")[1]
    assert out.startswith("CANNOT RUN: ") and "--sglang-version RELEASE" in out.splitlines()[1]
    assert ("no sglang is here to load it" in out) == (release is None)
    asked = run(capsys, "doctor", "--", "--model", "x")[1]
    assert "none found" not in asked and "not judged: no sglang that is known here" in asked


def test_a_bad_variable_is_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("G4DIAG_PATCHES", "nonsense")
    code, out, err = run(capsys, "doctor")
    assert code == 2 and not out and err.count("\n") == 1


def test_nothing_heavy_is_imported() -> None:
    code, packages = imported("doctor")
    assert code == 0 and not {"torch", "sglang", "triton"} & set(packages)
