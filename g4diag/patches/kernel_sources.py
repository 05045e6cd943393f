"""Copies of kernel sources that a patch has rewritten, in a cache that many processes may fill at once; and whether the
compiler needs them at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

_ASKS_FOR_BIT_CAST = "#include <bit>\n#ifndef __cpp_lib_bit_cast\n#error g4diag_has_none\n#endif\n"


def placed(source: Path, text: str, name: str = "") -> Path:
    """`text` in the cache, in a folder named by source path and content; whole or not there, whoever else writes it.
    name: its path in that folder, the source's own name if none is given."""
    digest = hashlib.sha256(f"{source}\0{text}".encode()).hexdigest()[:16]
    path = cache() / "jit" / digest / (name or source.name)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def cache() -> Path:
    """Our folder in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(home) if home else Path.home() / ".cache") / "g4diag"


@lru_cache(maxsize=8)
def lacks_bit_cast(compiler: str) -> bool:
    """Whether this C++ compiler's library has no std::bit_cast: of nvcc, that of the host compiler which it picks by
    itself. False where it cannot be asked."""
    as_cuda = ("-x", "cu", "-E") if Path(compiler).name.startswith("nvcc") else ("-x", "c++", "-fsyntax-only")
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".cpp", encoding="utf-8") as file:
            file.write(_ASKS_FOR_BIT_CAST)
            file.flush()
            command = [compiler, "-std=c++20", *as_cuda, file.name]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode != 0 and "g4diag_has_none" in done.stderr
