"""Child processes of ours run our code, and never a module that lies beside the evidence: neither the current folder
nor a part of PYTHONPATH that stands for it is on their path.

`python -m` puts the current folder first, and an empty part of PYTHONPATH means it too. A path that was given in full
is kept: a stack may be made of such.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_HOME = str(Path(__file__).resolve().parents[1])


def module(name: str, *arguments: str) -> list[str]:
    """The command line that runs a module, with `environment`'s."""
    return [sys.executable, "-P", "-m", name, *arguments]


def environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """`environ`, ours if none is given, with a PYTHONPATH of absolute parts alone, and us on it where we are in the
    current folder, as in a checkout that is not installed."""
    made = dict(os.environ if environ is None else environ)
    given = [part for part in made.get("PYTHONPATH", "").split(os.pathsep) if part]
    parts = [part for part in given if os.path.isabs(part)]
    if os.path.realpath(os.getcwd()) == _HOME and _HOME not in parts:
        parts.append(_HOME)
    made.pop("PYTHONPATH", None)
    return made | ({"PYTHONPATH": os.pathsep.join(parts)} if parts else {})


def clean_path() -> None:
    """Take the current folder off this process's path, unless we are in it. For a command, not for a library."""
    here = os.path.realpath(os.getcwd())
    if here != _HOME:
        sys.path[:] = [part for part in sys.path if part and os.path.realpath(part) != here]
