"""A debugger over evidence gets so much time, memory, output and disk, and leaves no process and no file."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from g4diag.dump.limited import MAX_OUTPUT, output_of


def python(code: str, seconds: float = 20) -> bytes:
    return output_of([sys.executable, "-c", code], seconds)


def test_what_it_says_is_cut() -> None:
    assert len(python("import sys\nwhile True: sys.stdout.write('x' * 65536)")) == MAX_OUTPUT


def test_it_and_its_children_end_in_time(tmp_path: Path) -> None:
    code = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    code += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); time.sleep(60)"
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        python(code, seconds=3)
    assert time.monotonic() - began < 15
    pid = int((tmp_path / "pid").read_text())
    time.sleep(0.2)
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import mmap, time; time.sleep(.3); mmap.mmap(-1, 40 << 30)", b"Cannot allocate memory"),
        (
            "import time; time.sleep(.3); f = open('x', 'wb'); f.seek(300 << 20); f.write(b'x'); f.flush()",
            b"File too large",
        ),
    ],
)
def test_limits(code: str, says: bytes) -> None:
    assert says in python(f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); {code}")


def test_it_works_in_a_folder_that_goes_and_is_told_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cr3t-value")
    said = python("import os; open('left', 'w'); print(os.getcwd(), dict(os.environ))").decode()
    assert "s3cr3t" not in said and not os.path.exists(said.split()[0])
