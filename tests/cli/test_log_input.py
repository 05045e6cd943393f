"""A log through a pipe, and a log in place of a command line."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from g4diag.cli.log_arguments import named_log, read_arguments
from g4diag.errors import UsageError, VacuousError
from g4diag.matrix.cells import matrix
from g4diag.sandbox.effort import BYTES_A_SECOND, count_files, seconds_for_logs
from g4diag.sandbox.spool import spooled
from tests.cli.test_inspect import run

CASES = Path(__file__).parents[1] / "logs" / "cases"


def test_standard_input_is_a_private_file_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
    with spooled([Path("-")]) as (path,):
        assert path.name == "stdin" and path.read_bytes() == b"one\ntwo\n" and path.stat().st_mode & 0o077 == 0
    assert not path.exists()


def test_a_named_pipe_is_not_opened(tmp_path: Path) -> None:
    with spooled([tmp_path / "fifo"]) as paths:
        assert paths == [tmp_path / "fifo"]


def test_a_large_log_gets_more_time_and_other_files_do_not(tmp_path: Path) -> None:
    (tmp_path / "server.log").write_bytes(b"[2026-06-01 01:00:00] x\n" * (BYTES_A_SECOND // 24 * 3))
    (tmp_path / "other").write_bytes(b"\x80\x02" + bytes(range(256)) * (BYTES_A_SECOND // 128))
    assert 2.5 < seconds_for_logs([tmp_path]) < 3.5 and seconds_for_logs([tmp_path / "other"]) == 0


def test_files_of_every_node_s_folder_count(tmp_path: Path) -> None:
    for node in range(3):
        (tmp_path / f"node{node}").mkdir()
        for name in ("a.pt", "b.g4ring", "server.log"):
            (tmp_path / f"node{node}" / name).write_bytes(b"[2026-06-01 01:00:00] x\n" * (BYTES_A_SECOND // 24))
    (tmp_path / "loop").symlink_to(tmp_path)
    assert count_files([tmp_path]) == 9 and count_files([tmp_path / "node0", tmp_path / "none"]) == 4
    assert 8 < seconds_for_logs([tmp_path]) < 10


def test_which_argument_is_a_log() -> None:
    case = str(CASES / "01-sglang26957-frozenkv-trtllm.log")
    assert named_log([case]) == Path(case) and named_log(["-"]) == Path("-")
    assert named_log([]) is None and named_log(["--tp", "2"]) is None and named_log(["--help"]) is None
    with pytest.raises(UsageError):
        named_log(["no-such-file"])


SERVER = "[2026-06-01 09:12:01] server_args=ServerArgs(model_path='google/gemma-4-E4B-it', {})\n"
FLAGS = "attention_backend='trtllm_mha', speculative_algorithm='FROZEN_KV_MTP', page_size=64, tp_size=1"
RELEASE = "[2026-06-01 09:12:00] sglang version: {}\n"


@pytest.mark.parametrize("told", ["0.5.13", "0.5.20", ""])
def test_doctor_judges_a_log_by_the_release_it_tells_or_says_which_it_assumes(
    told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server.log").write_text((RELEASE.format(told) if told else "") + SERVER.format(FLAGS))
    _, out, err = run(capsys, "doctor", "--json", str(tmp_path / "server.log"))
    found = json.loads(out)
    assert err == "" and found["flags"]["attention-backend"] == "trtllm_mha"
    # The log is of another machine: this one's GPU, or none, says nothing of it.
    assert (found["gpu"], found["gpu_is"]) == ("", "the log names none; --gpu sm90 does")
    if told:
        assert (found["release"], found["release_is"]) == (told, "as the log tells")
    else:
        assert found["release"] == matrix().releases[-1] and found["release_is"].startswith("ASSUMED, ")
    met = {row["name"] for row in found["bugs"] if row["met"]}
    alive = {name for name in met if (cell := matrix().cell(name, found["release"])) and cell.standing == "alive"}
    assert met and met == alive
    # Of a release that nobody named nothing is claimed.
    assert found["exit_code"] == (1 if told else 4)


def test_what_a_log_lacks_is_given_after_it(tmp_path: Path, no_child: None, capsys: pytest.CaptureFixture[str]) -> None:
    log, model = tmp_path / "server.log", tmp_path / "config.json"
    log.write_text(SERVER.format(FLAGS))
    model.write_text('{"architectures": ["Gemma4ForCausalLM"]}')
    asked = ("doctor", "--json", "--sglang-version", "0.5.23", "--gpu", "sm100", str(log))
    assert {row["name"] for row in json.loads(run(capsys, *asked)[1])["open"]} == {"swa-ratio-moe"}
    found = json.loads(run(capsys, *asked, "--", "--model-path", str(tmp_path))[1])
    assert found["open"] == [] and found["flags"]["model-path"] == str(tmp_path)


def test_two_releases_of_one_log_are_judged_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "server.log").write_text(SERVER.format(FLAGS))
    judged = {
        release: run(capsys, "doctor", "--sglang-version", release, str(tmp_path / "server.log"))[1]
        for release in ("0.5.13", "0.5.23")
    }
    assert all(f"judged: release {release} (as named)" in out for release, out in judged.items())
    assert judged["0.5.13"].splitlines()[2:] != judged["0.5.23"].splitlines()[2:]


def test_the_arguments_of_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    from g4diag import analyzers, sandbox

    monkeypatch.setattr(sandbox, "inspect_files", analyzers.inspect_files)
    found = read_arguments(CASES / "01-sglang26957-frozenkv-trtllm.log")
    assert "--attention-backend trtllm_mha" in " ".join(found.arguments) and not found.release
    assert "--speculative-algorithm FROZEN_KV_MTP" in " ".join(found.arguments)
    with pytest.raises(VacuousError):
        read_arguments(CASES / "04-sglang22930-kvtc-replay.log")


@pytest.mark.parametrize(
    ("log", "release", "says"),
    [
        ("01", "0.5.13", "trtllm-mha-swa, which this log matches: cured in 0.5.13"),
        ("01", "0.5.12.post1", "trtllm-mha-swa, which this log matches: not there yet in"),
        ("28", "0.5.23", "frozen-kv-no-bonus-tokens, which this log matches: not known of"),
    ],
)
def test_a_log_is_told_how_its_own_bug_stands_in_that_release(
    log: str, release: str, says: str, no_child: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = CASES.glob(f"{log}-*")
    asked = ("doctor", "--sglang-version", release, str(path))
    assert says in " ".join(run(capsys, *asked)[1].split()[:60])
    assert json.loads(run(capsys, *asked, "--json")[1])["log_issue"].startswith(says)


def test_a_log_that_names_no_draft_is_no_command_line_without_one(no_child: None) -> None:
    found = read_arguments(CASES / "01-sglang26957-frozenkv-trtllm.log").arguments
    assert found[found.index("--speculative-draft-model-path") + 1] == "(not named in the log)"
