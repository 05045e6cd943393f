"""Do sglang's own arguments parse: by its own parser, in a child process, so that nothing heavy is imported here.

`python -m g4diag.doctor.flag_check FILE ARGUMENTS...` parses them as `sglang.launch_server` does and writes what came
of it to FILE. The child takes some 6 s. `doctor` always starts it. `serve`, whose server will judge the values itself,
does so only for a flag that the text of server_args.py does not declare, and for a --config file, whose keys sglang
makes into flags in its own way.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from g4diag.atomic_write import atomic_write
from g4diag.hazards.command_line import known_flags, parse
from g4diag.hooks.anchors import source_file
from g4diag.isolated import environment, module
from g4diag.model.doctor import FlagCheck, UnknownFlag
from g4diag.stack.entry_points import ARGUMENT_FIELDS, SERVER_ARGS

PROGRAM = tuple(module("g4diag.doctor.flag_check"))
_SECONDS = 300.0
_FLAG = re.compile(r"-{1,2}[A-Za-z]")


class _Refused(Exception):
    """What the parser would have printed before it ended the process."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Refused(message)


def declared_flags() -> frozenset[str]:
    """Flags that the installed text declares: server_args.py and, since 0.5.20, the files of its fields; none without
    them."""
    located = [found[0] for name in (SERVER_ARGS, *ARGUMENT_FIELDS) if (found := source_file(name)) and not found[1]]
    files = [file for path in located for file in (path.parent.glob("*.py") if path.name == "__init__.py" else [path])]
    return frozenset(flag for file in files for flag in known_flags(file.read_text(encoding="utf-8")))


def check(
    arguments: Sequence[str], environ: Mapping[str, str], program: Sequence[str] = PROGRAM, *, values: bool = False
) -> FlagCheck:
    """What sglang's parser makes of these arguments, those of a --config file included. values: ask it for the sake of
    the values too, where all flags are declared."""
    declared = declared_flags() - {"config"}
    short = {argument for argument in arguments if _FLAG.match(argument) and not argument.startswith("--")}
    if not arguments or (not (values or short) and set(parse(arguments, declared)) <= declared):
        return FlagCheck()
    # Plugins of others may add flags; ours shall arm nothing there.
    own = environment({name: value for name, value in environ.items() if not name.startswith("G4DIAG_")})
    with tempfile.TemporaryDirectory(prefix="g4diag-flags-") as folder:
        file = Path(folder) / "outcome.json"
        command = [*program, str(file), *arguments]
        try:
            done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return FlagCheck(unchecked=f"sglang's parser gave no answer within {_SECONDS:.0f} s")
        if not file.exists():
            last = ([line for line in done.stderr.splitlines() if line.strip()] or ["nothing said"])[-1]
            return FlagCheck(unchecked=f"sglang's parser cannot be had here: {last.strip()}")
        said = json.loads(file.read_text(encoding="utf-8"))
    return FlagCheck(tuple(UnknownFlag(**row) for row in said["unknown"]), said["refused"])


def judge(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    """`unknown`: flags the parser does not know, or else values that belong to no flag. `refused`: what it says
    against the rest. A required flag may be missing: a part of a command line can be judged too."""
    for action in parser._actions:
        action.required = False
    try:
        _, left = parser.parse_known_args(list(arguments))
    except _Refused as refused:
        return {"unknown": [], "refused": str(refused)}
    except SystemExit:  # --help and its like: the server prints and leaves too
        return {"unknown": [], "refused": ""}
    names = [argument.partition("=")[0] for argument in left if _FLAG.match(argument)]
    known = list(parser._option_string_actions)
    rows = [{"name": name, "nearest": nearest(name, known)} for name in dict.fromkeys(names or left)]
    return {"unknown": rows, "refused": ""}


def nearest(name: str, known: Sequence[str]) -> str:
    """The known flag most like it, "" if none is."""
    return next(iter(difflib.get_close_matches(name.replace("_", "-"), known, n=1, cutoff=0.7)), "")


def main(file: Path, arguments: list[str]) -> None:
    """As `prepare_server_args`, up to where the arguments are parsed. Anything raised ends the process, and its last
    line is shown."""
    from g4diag.stack import entry_points

    parser = _Parser(prog="sglang serve")
    given = entry_points.with_flags(parser, arguments)
    atomic_write(file, json.dumps(judge(parser, given)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
