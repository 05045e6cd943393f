"""`g4diag minimize`: the exit codes and what a person or a script reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from g4diag.minimize.case import scenarios
from tests.cli.test_inspect import run
from tests.releases import unlike

pytest.importorskip("sglang")

pytestmark = pytest.mark.usefixtures("no_child")
DUMPS = Path(__file__).parents[2] / "dumps"
DRIVEN = next(name for name, scenario in scenarios().items() if scenario.drives)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["no-such"], 2, "unknown file or scenario: wanted one of "),
        (["trtllm-mha-swa", "--state", "x"], 2, "found 'x'"),
        ([str(DUMPS / "README.md"), "--state", "faulty"], 2, "are for a scenario"),
        ([str(DUMPS / "README.md")], 5, "not a "),
        ([DRIVEN], 3, "found one that drives single classes"),
        ([str(DUMPS / "legacy-allocator-last-page.pt")], 4, "no violation in it"),
    ],
)
def test_a_refusal_is_one_line_and_its_exit_code(
    arguments: list[str],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = run(capsys, "minimize", *arguments)
    assert (found, out) == (code, "") and says in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_sglang_it_cannot_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    unlike(monkeypatch, None)
    code, _, err = run(capsys, "minimize", "trtllm-mha-swa")
    assert code == 3 and "found none" in err


def test_a_dump_gives_a_test_even_where_no_time_is_left_to_make_it_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "minimize", str(DUMPS / "h100-eager-warn.pt"), "--json", "--seconds", "0")
    found = json.loads(out)
    assert (code, found["schema"], found["version"], found["stopped"]) == (0, "g4diag.minimize", 1, "out of time")
    assert (found["scenario"], found["state"], found["healthy_state"]) == ("trtllm-mha-swa", "faulty", "upstream")
    assert (found["source"], found["before"]["page_size"], found["before"]["window"]) == ("the dump", 64, 128)
    assert found["signature"] == found["faulty"]["signature"] and found["healthy"]["checked"] > 0
    assert found["faults_reintroduced"] == ["faulty-rule"] and found["before"] == found["after"]
    assert Path("test_g4_trtllm_mha_swa.py").is_file() and Path(found["state_file"]).is_file()
