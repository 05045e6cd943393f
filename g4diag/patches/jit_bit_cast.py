"""Three JIT kernels of tensor parallelism compile without `std::bit_cast`.

Symptom: with TP > 1 the JIT stops: there is no bit_cast in namespace std.
Cause: the headers use C++20's std::bit_cast to test the alignment of a pointer: 1 place in each of the two kernels of
custom all-reduce v2, 4 in the tensor-parallel QK norm (in 0.5.13 MiniMax-M2 alone calls that one). GCC's library has
it from 11 on, and two of the three headers get <bit> only by way of others. A cast of the pointer to an integer
compiles everywhere and is equal bit for bit.
Upstream: none; by FACTS 0.5.23 has dropped the two all-reduce headers and still has the 4 places. Nothing changes for
toolchains that compile the originals (nvcc 13.0 with GCC 12 does).

Where the fork pyc96/sglang was wrong: it edited the installed headers. The JIT's cache knows a kernel by the path and
content of its source, so what was built before may go on being used, and an upgrade brings the error back without a
word. Here load_jit is handed a rewritten copy: it accepts absolute paths, and its own cache key then names ours. The
headers include nothing by relative path, which is checked, so a copy sees what the original sees. Left alone: 4 more
places in the DeepSeek-V4 kernels, which Gemma-4 never loads.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from g4diag.errors import PatchRefused
from g4diag.guard import guard
from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Patch

_SITES = {
    "distributed/custom_all_reduce_pull.cuh": 1,
    "distributed/custom_all_reduce_push.cuh": 1,
    "distributed/tp_qknorm.cuh": 4,
}
_SITE = re.compile(r"std::bit_cast<(u?intptr_t)>\(([\w.]+)\)")
_RELATIVE_INCLUDE = re.compile(r'^\s*#\s*include\s+"[^"]+"', re.MULTILINE)
_LOAD_JIT = "sglang.jit_kernel.utils.load_jit"
_USERS = "sglang.jit_kernel.all_reduce"


def loaded(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """load_jit with the three headers, where it is asked for one, replaced by their rewritten copies."""
    if files := kwargs.get("cuda_files"):
        kwargs["cuda_files"] = [_copy_of(file) or file for file in files]
    return original(*args, **kwargs)


def rewritten(name: str, text: str) -> str:
    """`text` of header `name` with every std::bit_cast a pointer cast. PatchRefused unless as many as are known."""
    if relative := _RELATIVE_INCLUDE.search(text):
        raise PatchRefused(PATCH.name, f"no include by relative path in {name}", relative.group().strip())
    after, count = _SITE.subn(r"reinterpret_cast<\1>(\2)", text)
    if count != _SITES[name] or "bit_cast" in after:
        found = f"{count}, and {after.count('bit_cast')} of another form"
        raise PatchRefused(PATCH.name, f"{_SITES[name]} std::bit_cast of a pointer in {name}", found)
    return after


def placed(source: Path, text: str) -> Path:
    """`text` in the cache, in a folder named by source path and content; whole or not there, whoever else writes it."""
    digest = hashlib.sha256(f"{source}\0{text}".encode()).hexdigest()[:16]
    path = _cache() / "jit" / digest / source.name
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


def verify() -> None:
    """All three installed headers must be as we know them; the one who asks for them must reach the hook."""
    from sglang.jit_kernel import all_reduce, utils

    for name in _SITES:
        rewritten(name, _source(name).read_text(encoding="utf-8"))
    if all_reduce.load_jit is not utils.load_jit:
        raise PatchRefused(PATCH.name, "all_reduce's load_jit to be the hooked one", repr(all_reduce.load_jit))


# A cache that cannot be written leaves the original, which many toolchains do compile.
@guard("placing a rewritten kernel source")
def _copy_of(file: Any) -> str | None:
    name = str(file)
    if name not in _SITES:
        return None
    source = _source(name)
    return str(placed(source, rewritten(name, source.read_text(encoding="utf-8"))))


def _source(name: str) -> Path:
    from sglang.jit_kernel.utils import KERNEL_PATH

    source: Path = KERNEL_PATH / "csrc" / name
    if not source.is_file():
        raise PatchRefused(PATCH.name, f"the header {name}", f"nothing at {source}")
    return source


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(home) if home else Path.home() / ".cache") / "g4diag"


PATCH = Patch(
    name="jit-bit-cast",
    kind="cure",
    why="With TP > 1 the custom all-reduce and QK-norm kernels do not compile where the toolchain lacks std::bit_cast.",
    how="Around jit_kernel.utils.load_jit: those three headers come from a cache, 1 + 1 + 4 casts rewritten.",
    upstream="none; the fork pyc96/sglang",
    releases=">=0.5.12",
    anchors=(
        Anchor(_LOAD_JIT, 'cuda_files = [str((KERNEL_PATH / "csrc" / f).resolve()) for f in cuda_files]'),
        Anchor("sglang.jit_kernel.utils", 'DEFAULT_INCLUDE = [str(KERNEL_PATH / "include")]'),
        *(Anchor(_USERS, f'cuda_files=["{name}"]') for name in _SITES),
    ),
    hooks=lambda: (Hook(_LOAD_JIT, "around", loaded),),
    verify=verify,
    remove_when="No toolchain in use lacks std::bit_cast, or upstream casts pointers itself.",
)
