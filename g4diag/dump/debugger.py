"""Ask cuda-gdb of the core dumps among what was given, before the process with limits opens anything.

It runs as a child of its own under wider limits, as it needs memory and files: see `limited`. Only files whose header
is a CUDA core dump's are given to it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from g4diag.dump import core_dump
from g4diag.dump.torch_zip import open_regular
from g4diag.errors import G4DiagError

MAX_FILES = 4096


def ask(paths: Sequence[Path], seconds: float = core_dump.SECONDS) -> dict[str, tuple[str, ...]]:
    """What cuda-gdb says of the first core dumps in these files and directories, by path. Never raises."""
    files = itertools.islice(_files(paths), MAX_FILES)
    cores = itertools.islice(filter(_is_core, files), core_dump.MAX_CORES)
    return {str(path): core_dump.says(path, seconds) for path in cores}


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Files given, and those below directories given; no link is followed there."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, _, names in os.walk(path):
            yield from (Path(folder, name) for name in sorted(names) if not Path(folder, name).is_symlink())


def _is_core(path: Path) -> bool:
    with contextlib.suppress(G4DiagError, OSError), open_regular(path) as (file, _):
        head = file.read(64)
        if head.startswith(core_dump.ELF):
            core_dump.check_header(head)
            return True
    return False
