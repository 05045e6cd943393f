"""Arm everything in a child process before the server starts, since sglang swallows what a plugin raises.

`python -m g4diag.serve.preflight FILE` loads plugins as the server will and writes what came of it to FILE.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from g4diag.atomic_write import atomic_write
from g4diag.errors import CannotRunError
from g4diag.isolated import environment, module

PROGRAM = tuple(module("g4diag.serve.preflight"))
_SECONDS = 600.0


class Checked(NamedTuple):
    """What came of arming in a child. manifest: what is on there. problems: patches not in force, not_armed: traps that
    do not fit this sglang; one line each."""

    manifest: dict[str, list[str]]
    problems: list[str]
    not_armed: list[str]


def preflight(environ: Mapping[str, str], program: Sequence[str] = PROGRAM, seconds: float = _SECONDS) -> Checked:
    """What is armed in a child under `environ`. CannotRunError, in one line, if the plugin was not loaded or did not
    arm."""
    with tempfile.TemporaryDirectory(prefix="g4diag-preflight-") as folder:
        file = Path(folder) / "outcome.json"
        command, own = [*program, str(file)], environment(environ) | {"G4DIAG_RUN_DIR": folder}
        try:
            done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise CannotRunError(f"preflight: wanted an answer within {seconds:.0f} s, found none") from error
        if not file.exists():
            last = ([line for line in done.stderr.splitlines() if line.strip()] or ["nothing said"])[-1]
            raise CannotRunError(f"preflight: the process that arms ended with {done.returncode}: {last.strip()}")
        said = json.loads(file.read_text(encoding="utf-8"))
    if said["state"] == "failed":
        raise CannotRunError(f"not armed, and so not started: {said['error']}")
    if said["state"] == "not called":
        raise CannotRunError("not armed, and so not started: sglang did not load the plugin; see g4diag doctor")
    return Checked(said["manifest"], said["problems"], said.get("not_armed", []))


def main(file: Path) -> None:
    """Load plugins, then say what came of ours, which is on record in this folder. Anything raised ends the process,
    and its last line is shown."""
    from g4diag.patches import applying
    from g4diag.stack import entry_points
    from g4diag.stack.live import records

    entry_points.load_plugins()
    spoken = [asdict(record) for record in records.read(file.parent) if record.pid == os.getpid()]
    said = (spoken or [{"state": "not called"}])[0] | {"problems": applying.problems()}
    atomic_write(file, json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
