"""`g4diag match`: the signature first, alone on its line; the exit code says whether it is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from g4diag.dump.writer import write_dump
from g4diag.matrix.cells import matrix
from g4diag.matrix.words import affected_releases
from tests import samples
from tests.cli.test_inspect import DUMPS, run

LOGS = Path(__file__).parents[1] / "logs" / "cases"
WHERE = affected_releases(matrix(), "trtllm-mha-swa")
pytestmark = pytest.mark.usefixtures("no_child")


@pytest.mark.parametrize(
    ("name", "code", "issue"),
    [
        ("trtllm-mha-swa-faulty-seed0.pt", 0, "trtllm-mha-swa"),
        ("legacy-page-table.pt", 4, "trtllm-mha-swa"),
        ("legacy-allocator.pt", 1, None),
    ],
)
def test_samples(name: str, code: int, issue: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    found, out, err = run(capsys, "match", DUMPS / name)
    assert (found, err) == (code, "") and out.startswith("g4d1:")
    assert (f"{issue}: " if issue else "no known issue matches") in out
    assert (f"affected releases: {WHERE}\n" in out) == (issue is not None)


def test_of_several_files_a_guess_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "match", DUMPS / "legacy-page-table.pt", DUMPS / "h200-fa4-eager-warn.pt")
    assert code == 0 and ":decode; a guess: trtllm-mha-swa\n" in out and ":draft_decode; frozen-draft-fa\n" in out


def test_a_log_is_told_why_it_has_no_signature_and_what_to_type_next(capsys: pytest.CaptureFixture[str]) -> None:
    for name, wanted, says in (
        ("01-sglang26957-frozenkv-trtllm.log", 0, "  derived   trtllm-mha-swa: "),
        ("07-sglang20010-leak.log", 1, "  no known issue matches"),
        ("04-sglang22930-kvtc-replay.log", 4, "  no known issue matches"),
    ):
        code, out, _ = run(capsys, "match", LOGS / name)
        first, second, *rest = out.splitlines()
        assert code == wanted and first.startswith(f"{name}: no signature: ") and second.startswith(says)
        assert [line for line in rest if line.startswith("  next      ") and "g4diag " in line]
        assert json.loads(run(capsys, "match", LOGS / name, "--json")[1])["next"]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "match", DUMPS / "h100-graph-contain.pt", "--json")
    document = json.loads(out)
    assert code == document["exit_code"] == 0 and document["schema"] == "g4diag.match"
    assert document["signature"] == "g4d1:page_table_in_layer_space:swa-page:swa:trtllm_mha:draft_decode"
    assert document["issues"][0]["id"] == "trtllm-mha-swa" and document["issues"][0]["grade"] == "derived"
    assert document["issues"][0]["affected_releases"] == WHERE


def test_nothing_to_match_is_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_dump(samples.incident(samples.healthy_read()), tmp_path / "x.pt")
    code, out, _ = run(capsys, "match", path)
    assert code == 4 and out.startswith("x.pt: nothing to match (healthy)\n")


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pt").write_bytes(b"hello")
    for path, wanted in ((tmp_path / "x.pt", 5), (tmp_path / "missing.pt", 2)):
        code, out, err = run(capsys, "match", path)
        assert (code, out) == (wanted, "") and err.startswith("g4diag: ") and err.count("\n") == 1


def test_several_files_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """A defect that no issue explains is not hidden by one that is known."""
    paths = [DUMPS / name for name in ("trtllm-mha-swa-faulty-seed0.pt", "legacy-allocator.pt")]
    code, out, _ = run(capsys, "match", *paths)
    known, unknown = out.splitlines()[-2:]
    assert code == 1 and "; trtllm-mha-swa; faults put back on purpose: faulty-rule" in known
    assert "legacy-allocator.pt: g4d1:slot_inside_allocator" in unknown and "no known issue matches" in unknown
    document = json.loads(run(capsys, "match", *paths, "--json")[1])
    assert [part["exit_code"] for part in document["parts"]] == [0, 1] and document["exit_code"] == 1


def test_several_that_match_are_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = write_dump(samples.faulty_incident(), tmp_path / "a.pt")
    clean = write_dump(samples.incident(samples.healthy_read()), tmp_path / "b.pt")
    code, out, _ = run(capsys, "match", known, clean)
    assert code == 0 and "  file      b.pt: nothing to match (healthy)" in out


def test_a_file_that_cannot_be_read_is_told_and_never_a_plain_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = write_dump(samples.faulty_incident(), tmp_path / "a.pt")
    broken = tmp_path / "b.pt"
    broken.write_bytes(known.read_bytes()[:3000])
    for arguments in ([broken, known], [tmp_path]):
        code, out, _ = run(capsys, "match", *arguments)
        assert code == 4 and out.startswith("g4d1:") and "  measured  b.pt: not read: corrupt or truncated" in out
        document = json.loads(run(capsys, "match", *arguments, "--json")[1])
        assert document["exit_code"] == 4 and document["unread"][0].startswith("b.pt: not read: ")
    unknown = DUMPS / "legacy-allocator.pt"
    assert run(capsys, "match", broken, unknown)[0] == 1, "a defect stays one"


def test_what_a_trap_recorded_is_matched(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "match", DUMPS / "h100-postmortem.json")
    assert code == 0 and out.startswith("g4d1:page_table_stays_in_pool:swa-page:swa:-:draft_decode\n")
    assert "  derived   trtllm-mha-swa: " in out and "surfaced-elsewhere" not in out


def test_a_fault_put_back_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "match", DUMPS / "trtllm-mha-swa-faulty-seed0.pt")[1]
    assert "FAULT STATE RE-INTRODUCED ON PURPOSE: faulty-rule" in out
    assert "06-02; here the fault was put back on purpose\n" in out
