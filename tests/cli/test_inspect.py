"""`g4diag inspect`: exit codes, one-line refusals, and no need of sglang or torch."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from g4diag import __version__
from g4diag.cli import main
from g4diag.discover import Contribution
from g4diag.dump.writer import write_dump
from tests import samples
from tests.contracts.rules import HEAVY

pytestmark = pytest.mark.usefixtures("no_child")
DUMPS = Path(__file__).parents[2] / "dumps"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main.run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    return write_dump(samples.faulty_incident(), tmp_path / "faulty.pt")


def test_defect_is_1(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "inspect", faulty)
    assert code == 1 and out.startswith("ERROR: g4diag: page_table_stays_in_pool: ") and not err
    for said in ("layer 4", "row 0 column 60", "page 188", "past the last of 154 pages", "its SWA page is 100"):
        assert said in out


def test_json(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "inspect", faulty, "--json")
    assert code == 1 and json.loads(out)["schema"] == "g4diag.inspect"


def test_clean_is_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_dump(samples.incident(samples.healthy_read()), tmp_path / "x.pt")
    assert run(capsys, "inspect", path)[0] == 0


def test_nothing_to_judge_is_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "inspect", write_dump(samples.incident(), tmp_path / "x.pt"))
    assert code == 4 and out.startswith("INCONCLUSIVE")


@pytest.mark.parametrize(
    ("name", "code"), [("legacy-page-table", 1), ("legacy-allocator", 1), ("legacy-allocator-last-page", 0)]
)
def test_legacy(name: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "inspect", DUMPS / f"{name}.pt")[0] == code


@pytest.mark.parametrize("path", ["missing.pt", "fifo"])
def test_no_such_file_is_2_in_one_line(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "fifo")
    code, out, err = run(capsys, "inspect", tmp_path / path)
    assert code == 2 and not out and err.startswith("g4diag: ") and err.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", pickle.dumps({"a": print}), b"\x1b[2J" * 9])
def test_not_a_dump_is_5_in_one_line(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    code, out, err = run(capsys, "inspect", tmp_path / "x.pt")
    assert code == 5 and not out and err.startswith("g4diag: ") and err.count("\n") == 1 and err[:-1].isprintable()
    assert "x.pt: " in err, "names the file"


@pytest.mark.parametrize("name", ["server.log", "x.txt", "x"])
@pytest.mark.parametrize("content", [b"", b"\n \r\n"])
def test_an_empty_log_is_4_in_one_line(
    name: str, content: bytes, tmp_path: Path, no_child: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    said = f"g4diag: {tmp_path / name}: empty: nothing is told in it\n"
    assert run(capsys, "inspect", tmp_path / name) == (4, "", said)


def test_an_empty_log_beside_another_costs_it_nothing(
    tmp_path: Path, no_child: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.log").touch()
    code, out, _ = run(capsys, "inspect", tmp_path / "empty.log", DUMPS / "legacy-allocator-last-page.pt")
    assert code == 0 and out.startswith("HEALTHY")


def test_truncated_is_5(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = faulty.read_bytes()
    for length in range(0, len(whole), len(whole) // 12):
        faulty.write_bytes(whole[:length])
        code, out, err = run(capsys, "inspect", faulty)
        assert (code, out) == (5, "") and err.count("\n") == 1


def test_a_flipped_byte_is_told_in_words(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a name in the archive, of a text in the document, and of what is only a number."""
    whole = faulty.read_bytes()
    for mark in (b"data.pkl", b"g4diag", b"PK\x01\x02"):
        at = whole.rindex(mark)
        faulty.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        code, _, err = run(capsys, "inspect", faulty)
        assert code == 5 and not re.search(r"[A-Z][a-z]+(?:[A-Z][a-z]+)+:|codec|0xff", err), err
    path = faulty.with_suffix(".json")
    path.write_bytes(b'{"schema": "\xff"}')
    assert run(capsys, "inspect", path)[2].endswith("not JSON: a byte that belongs to no text\n")


@pytest.mark.parametrize("arguments", [["inspect"], ["nonsense"], ["inspect", "x", "--nonsense"]])
def test_usage_is_2_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and err.startswith("g4diag: ") and err.endswith("--help)\n") and err.count("\n") == 1


def test_misspelt_variable_is_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("G4DIAG_PATCHS", "all")
    assert run(capsys, "--version")[0] == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version")[:2] == (0, f"g4diag {__version__}\n")


def test_internal_error_is_one_line_unless_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(main, "build_app", broken)
    code, _, err = run(capsys, "inspect", "x")
    assert code == 1 and err.startswith("g4diag: internal error: ZeroDivisionError: oops") and err.count("\n") == 1
    monkeypatch.setenv("G4DIAG_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main.run(["inspect", "x"])


def test_command_that_does_not_load_refuses_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*main.contributions("g4diag.cli", "COMMAND"), Contribution("broken", "x", error="ImportError: y")]
    monkeypatch.setattr(main, "contributions", lambda *_: rows)
    assert run(capsys, "--help")[0] == 0
    code, _, err = run(capsys, "broken")
    assert code == 3 and "ImportError: y" in err


def blocking(folder: Path) -> None:
    """Put stand-ins for the heavy packages there that refuse to be imported."""
    folder.mkdir(exist_ok=True)
    for name in HEAVY:
        (folder / f"{name}.py").write_text(f"raise ImportError('blocked: {name}')")


def without_the_stack(*arguments: str | Path) -> Any:
    """Run with the heavy packages made unimportable, in the child process too."""
    with tempfile.TemporaryDirectory() as blocked:
        blocking(Path(blocked))
        command = [sys.executable, "-m", "g4diag", *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": blocked}
        return subprocess.run(
            command, cwd=DUMPS.parent, env=environment, capture_output=True, text=True, timeout=60, check=False
        )


_FAULTY = DUMPS / "trtllm-mha-swa-faulty-seed0.pt"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--help",), 0, "Usage: g4diag"),
        (("inspect", _FAULTY), 1, "ERROR: g4diag: page_table_stays_in_pool: "),
        (("inspect", _FAULTY, DUMPS / "h100-postmortem.json", "--json"), 1, '"schema": "g4diag.inspect"'),
        (("match", _FAULTY), 0, "trtllm-mha-swa"),
        (("diff", _FAULTY, DUMPS / "eagle-own-pool-allocator-seed0.pt"), 1, "DIFFER: g4diag: "),
        (("report", _FAULTY, "--md"), 1, "Describe the bug"),
    ],
    ids=["help", "inspect", "inspect-several", "match", "diff", "report"],
)
def test_a_laptop_without_sglang_or_torch_will_do(arguments: tuple[str | Path, ...], code: int, says: str) -> None:
    done = without_the_stack(*arguments)
    assert (done.returncode, done.stderr) == (code, "") and says in done.stdout


@pytest.mark.parametrize("arguments", [["--version"], ["match"], ["inspect", "--json"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_stdout_that_takes_no_more_is_3_in_one_line(
    arguments: list[str], unbuffered: str, faulty: Path, tmp_path: Path
) -> None:
    """A limit on the size of files stands for a full disk: any user may set one."""
    command = [sys.executable, "-m", "g4diag", *arguments, *([] if arguments == ["--version"] else [str(faulty)])]
    with (tmp_path / "out").open("w") as full:
        done = subprocess.run(
            ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            **{"stdout": full, "stderr": subprocess.PIPE, "text": True, "timeout": 60, "check": False},
        )
    assert (done.returncode, done.stderr) == (3, "g4diag: output cannot be written: File too large\n")


@pytest.mark.parametrize(("color", "is_coloured"), [("auto", False), ("always", True), ("never", False)])
def test_color(color: str, is_coloured: bool, faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--color", color, "inspect", faulty)
    assert code == 1 and ("\x1b[" in out) is is_coloured
    assert run(capsys, "inspect", faulty)[1].count("\x1b") == 0, "it is of one command line"


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1"])
def test_a_terminal_that_does_not_know_a_letter_gets_its_number(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "\u6f22\u00e9.log").write_text("2026-05-05 02:22:14 Killed\n")
    command = [sys.executable, "-m", "g4diag", "inspect", str(tmp_path)]
    environ = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, check=False)
    assert done.returncode == 4 and not done.stderr, done.stderr
    assert rb"\u6f22" in done.stdout


def test_short_has_a_line_for_what_could_not_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump = Path(__file__).parents[2] / "dumps" / "trtllm-mha-swa-faulty-seed0.pt"
    (tmp_path / "good.pt").write_bytes(dump.read_bytes())
    (tmp_path / "cut.pt").write_bytes(dump.read_bytes()[:3000])
    (tmp_path / "rand.json").write_bytes(bytes(range(256)))
    _, out, _ = run(capsys, "inspect", "--short", str(tmp_path))
    rows = [line.split()[:2] for line in out.splitlines()]
    assert rows == [["ERROR", "good.pt"], ["UNREADABLE", "cut.pt"], ["UNREADABLE", "rand.json"]]
