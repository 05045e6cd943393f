"""pytest in a fork of this process, which has sglang imported already: a new one takes ten seconds to."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path

import pytest

from g4diag import guard


def run_pytest(folder: Path, *arguments: str) -> tuple[int, str]:
    """(exit code, all that it printed) of `pytest ARGUMENTS` there. Our errors are swallowed there."""
    importlib.import_module("sglang.srt.managers.scheduler")
    said = folder.with_name(f"{folder.name}-said.txt")
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = _in_child(folder, said, arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), said.read_text()


def _in_child(folder: Path, said: Path, arguments: tuple[str, ...]) -> int:
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number in (1, 2):
        os.dup2(out, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    for name in [name for name in os.environ if name.startswith("PYTEST")]:
        del os.environ[name]
    os.chdir(folder)
    guard.set_raising(False)
    return int(pytest.main(["-p", "no:cacheprovider", *arguments]))
