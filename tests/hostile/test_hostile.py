"""Hostile files end in one line and the right exit code, having run nothing, written nothing and taken little."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from g4diag.cli import main
from g4diag.dump.reader import read_dump
from g4diag.dump.torch_zip import open_regular
from g4diag.errors import UnsafeInputError, UsageError
from tests.hostile.assembler import STORAGES, dump, read, saved
from tests.hostile.make import make
from tests.hostile.programs import running_code

HERE = Path(__file__).parent
# Those that take long, or come in by other ways than the bytes; of the rest, one in so many goes through the CLI.
ALWAYS = ("not-a-file", "work", "program-", "zip-bomb", "zip-many", "json-keys", "kernel-", "larger-", "name", "bare-")
ONE_IN = 16
# Of processor time, parent and child: how long that is by the clock depends on what else the machine does.
MAX_SECONDS, MAX_KIB = 5.0, 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hostile") / "files"
    make(made)
    return made


def listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((path.name, path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.iterdir())


def names(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Every file, and whether it goes through the CLI."""
    for number, path in enumerate(sorted(folder.iterdir())):
        yield path, number % ONE_IN == 0 or path.name.startswith(ALWAYS)


def test_through_the_cli(folder: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    for path, in_cli in names(folder):
        if in_cli:
            (chosen / path.name).symlink_to(path)
    before = listing(folder)
    command = [sys.executable, str(HERE / "run.py"), str(chosen)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) >= 30
    wrong = [row for row in rows if not _as_wanted(row)]
    assert not wrong, "\n".join(str(row)[:500] for row in wrong)
    assert listing(folder) == before and not (folder.parent / "canary").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["files"]


def _as_wanted(row: dict[str, Any]) -> bool:
    code = UsageError.exit_code if row["name"].startswith("not-a-file") else UnsafeInputError.exit_code
    said = row["err"]
    one_line = said.startswith("g4diag: ") and said.count("\n") == 1 and said[:-1].isprintable() and len(said) < 1200
    named = row["name"].startswith("name") or row["name"] in said
    silent = not row["out"] and "internal error" not in said and "Traceback" not in said
    cheap = row["cpu"] < MAX_SECONDS and row["peak_kib"] < MAX_KIB
    return bool(row["code"] == code and one_line and named and silent and cheap)


def test_in_one_process(folder: Path) -> None:
    """The rest, without a limit: the reader itself refuses them, and soon."""
    seen = 0
    for path, in_cli in names(folder):
        if in_cli:
            continue
        began = time.process_time()
        with pytest.raises(UnsafeInputError) as refusal:
            read_dump(path)
        assert str(refusal.value).startswith(f"{path}: ") and "\n" not in str(refusal.value), path
        assert time.process_time() - began < MAX_SECONDS, path
        seen += 1
    assert seen >= 50 and not (folder.parent / "canary").exists()


def test_the_attack_itself_works(tmp_path: Path) -> None:
    """Else an absent canary would prove nothing."""
    program = dict(running_code(tmp_path / "canary"))["bare-pickle.pt"]
    (tmp_path / "attack").write_bytes(program)
    load = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", load, str(tmp_path / "attack")], check=False)
    assert (tmp_path / "canary").exists()


ACTS = "\x1b[2J\x1b]8;;http://x\x07\u202e\r[red]<script>alert(1)</script>"


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_what_is_shown_of_evidence_does_not_act(form: list[str], tmp_path: Path, capsys: Any) -> None:
    """A well-formed defect whose every text would act on a terminal."""
    fields = {"worker": ACTS, "phase": ACTS, "path": ACTS, "backend": ACTS, "rids": [ACTS]}
    pool = read()["pool"] | {"num_pages": 1, "name": ACTS}
    value = dump(
        reads=[read(pool=pool, **fields)], versions={ACTS: ACTS}, context={ACTS: ACTS}, notes=[["guess", ACTS]]
    )
    (tmp_path / "x.pt").write_bytes(saved(value, STORAGES))
    assert main.run(["inspect", str(tmp_path / "x.pt"), *form]) == 1
    said = capsys.readouterr().out
    assert "2J" in said and all(line.isprintable() for line in said.split("\n"))


def test_opening_does_not_follow_the_name_to_a_device() -> None:
    with pytest.raises(UsageError, match="not a regular file"), open_regular(Path("/dev/zero")):
        pass
