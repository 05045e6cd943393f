"""JIT kernels of tensor parallelism compile without `std::bit_cast`, and from 0.5.21 on all the others too.

Symptom: with TP > 1 the JIT stops: there is no bit_cast in namespace std. From 0.5.21 on it stops with TP = 1 as well.
Cause: sources use C++20's std::bit_cast to test the alignment of a pointer. GCC's library has it from 11 on, and some
get <bit> only by way of others. A cast of the pointer to an integer compiles everywhere and is equal bit for bit.
What is left where (counted in every wheel):
- until 0.5.15: 1 place in each of the two kernels of custom all-reduce v2, 4 in the tensor-parallel QK norm, which
  MiniMax-M2 alone calls in 0.5.13;
- 0.5.16 to 0.5.18: 1 in the all-reduce, now one file, and the 4;
- 0.5.19 and 0.5.20: the 4 alone, so that Gemma-4 needs nothing of this;
- since 0.5.21: the all-reduce asks `TensorMatcher` for the alignment, and so the 1 place is in the shared header
  tensor.h, which nearly every JIT kernel includes; the 4; and 2 in the NVLink gather of logits.
Upstream: none. Nothing changes for toolchains that compile the originals (nvcc 13.0 with GCC 12 does).

Where the fork was wrong: it edited the installed headers. The JIT's cache knows a kernel by the path and content of
its source, so what was built before may go on being used, and an upgrade brings the error back without a word. Here
load_jit is handed a rewritten copy: it accepts absolute paths, and its own cache key then names ours. The headers
include nothing by relative path, which is checked, so a copy sees what the original sees. The shared header is found
through -I, so a folder with our copy goes before upstream's, in the flags: that makes another kernel of every one, to
be compiled anew, and so it is done only where a compiler says that it has no std::bit_cast: $CXX's, or nvcc's own.
Left alone: places in kernels that Gemma-4 never loads (DeepSeek, Inkling), and __builtin_bit_cast, which is not the
library's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from g4diag.errors import PatchRefused
from g4diag.guard import guard
from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Form, Patch
from g4diag.patches.kernel_sources import lacks_bit_cast, placed

_SITE = re.compile(r"std::bit_cast<(u?intptr_t|uint8_t\*)>\(([\w.]+(?:\(\))?)\)")
_RELATIVE_INCLUDE = re.compile(r'^[ \t]{0,80}#[ \t]{0,80}include[ \t]{1,80}"[^"]+"', re.MULTILINE)


class Site(NamedTuple):
    """casts: how many a source has. module: who asks for it. inside: in which function, where several do."""

    casts: int
    module: str
    inside: str = ""


@dataclass(frozen=True)
class Line:
    """A line of releases. load_jit: the function's path. paths: the module with KERNEL_PATH. sites: by source under
    csrc/. anchors: (target, text) of how the JIT finds sources. shared: header under include/, casts in it. told_by:
    what tells this line from the next, where nothing else does."""

    releases: str
    load_jit: str
    paths: str
    sites: Mapping[str, Site]
    anchors: tuple[tuple[str, str], ...]
    shared: tuple[str, int] | None = None
    told_by: Anchor | None = None


def loaded(line: Line, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """load_jit with the sources that it is asked for and we know replaced by their rewritten copies, and the shared
    headers shadowed where the compiler needs that."""
    if files := kwargs.get("cuda_files"):
        kwargs["cuda_files"] = [_copy_of(line, file) or file for file in files]
    if line.shared and (folder := _shadow(line)):
        for flags in ("extra_cflags", "extra_cuda_cflags"):
            kwargs[flags] = [f"-I{folder}", *(kwargs.get(flags) or [])]
    return original(*args, **kwargs)


def rewritten(name: str, text: str, casts: int) -> str:
    """`text` of source `name` with every std::bit_cast a pointer cast. PatchRefused unless as many as are known."""
    if relative := _RELATIVE_INCLUDE.search(text):
        raise PatchRefused(PATCH.name, f"no include by relative path in {name}", relative.group().strip())
    after, count = _SITE.subn(r"reinterpret_cast<\1>(\2)", text)
    if count != casts or "bit_cast" in after:
        found = f"{count}, and {after.count('bit_cast')} of another form"
        raise PatchRefused(PATCH.name, f"{casts} std::bit_cast of a pointer in {name}", found)
    return after


def sources(line: Line) -> dict[str, tuple[Path, int]]:
    """Every source of ours in that line: name -> (installed file, casts). PatchRefused for one that is not there."""
    rows = {name: (_source(line, "csrc", name), site.casts) for name, site in line.sites.items()}
    if line.shared:
        name, casts = line.shared
        rows[name] = (_source(line, "include", name), casts)
    return rows


def verify(line: Line) -> None:
    """The installed sources must be as we know them; those who ask for them must reach the hook."""
    for name, (path, casts) in sources(line).items():
        rewritten(name, path.read_text(encoding="utf-8"), casts)
    module, _, name = line.load_jit.rpartition(".")
    hooked = getattr(import_module(module), name)
    for user in {site.module for site in line.sites.values()}:
        if (used := import_module(user).load_jit) is not hooked:
            raise PatchRefused(PATCH.name, f"{user}'s load_jit to be the hooked one", repr(used))


# A cache that cannot be written leaves the original, which many toolchains do compile.
@guard("placing a rewritten kernel source")
def _copy_of(line: Line, file: Any) -> str | None:
    name = str(file)
    if name not in line.sites:
        return None
    source = _source(line, "csrc", name)
    return str(placed(source, rewritten(name, source.read_text(encoding="utf-8"), line.sites[name].casts)))


@guard("placing a rewritten shared header")
def _shadow(line: Line) -> str | None:
    """A folder that holds the shared header under its name, None where the compiler takes upstream's."""
    toolchain = import_module(f"{line.paths.rpartition('.')[0]}.toolchain")
    # nvcc is told of no host compiler: it picks one of PATH, and $CXX, which compiles the rest, may be another.
    if line.shared is None or not any(map(lacks_bit_cast, toolchain.compilers())):
        return None
    name, casts = line.shared
    source = _source(line, "include", name)
    copy = placed(source, rewritten(name, source.read_text(encoding="utf-8"), casts), name)
    return str(copy.parents[len(Path(name).parts) - 1])


def _source(line: Line, folder: str, name: str) -> Path:
    source: Path = import_module(line.paths).KERNEL_PATH / folder / name
    if not source.is_file():
        raise PatchRefused(PATCH.name, f"the header {name}", f"nothing at {source}")
    return source


_OLD, _NEW = "sglang.jit_kernel.all_reduce", "sglang.kernels.ops.communication.all_reduce"
_UTILS = "sglang.kernels.jit.utils.compile"
_ALL_REDUCE, _QK_NORM = "distributed/custom_all_reduce.cuh", "distributed/tp_qknorm.cuh"
_BY_PATH = (
    ("load_jit", 'cuda_files = [str((KERNEL_PATH / "csrc" / f).resolve()) for f in cuda_files]'),
    ("", 'DEFAULT_INCLUDE = [str(KERNEL_PATH / "include")]'),
)
_RESOLVED = (
    ("loader.load_jit", "cuda_files=resolve_sources(cuda_files),"),
    ("spec.resolve_sources", "if path.is_absolute()"),
    ("paths", 'DEFAULT_INCLUDE: List[str] = [str(KERNEL_PATH / "include")]'),
)
_FLAGS_BEFORE_INCLUDES = (
    ("ninja.generate", "+ list(spec.cflags) + include_flags"),
    ("ninja.generate", "+ list(spec.cuda_cflags)"),
)
_LINES = (
    Line(
        ">=0.5.21",
        f"{_UTILS}.loader.load_jit",
        f"{_UTILS}.paths",
        {
            _QK_NORM: Site(4, _NEW),
            "distributed/nvlink_comm.cuh": Site(2, "sglang.kernels.ops.communication.nvlink_comm", "_jit_pull_module"),
        },
        (*_RESOLVED, *_FLAGS_BEFORE_INCLUDES),
        ("sgl_kernel/tensor.h", 1),
    ),
    Line(
        ">=0.5.19,<0.5.21",
        f"{_UTILS}.loader.load_jit",
        f"{_UTILS}.paths",
        {_QK_NORM: Site(4, _NEW)},
        _RESOLVED,
        told_by=Anchor(_NEW, 'cuda_files=["distributed/registry.cuh"]'),
    ),
    Line(
        ">=0.5.18,<0.5.19",
        f"{_UTILS}.loader.load_jit",
        f"{_UTILS}.paths",
        {_ALL_REDUCE: Site(1, _NEW), _QK_NORM: Site(4, _NEW)},
        _RESOLVED,
    ),
    Line(
        ">=0.5.17,<0.5.18",
        f"{_UTILS}.load_jit",
        _UTILS,
        {_ALL_REDUCE: Site(1, _NEW), _QK_NORM: Site(4, _NEW)},
        _BY_PATH,
    ),
    Line(
        ">=0.5.16,<0.5.17",
        "sglang.jit_kernel.utils.compile.load_jit",
        "sglang.jit_kernel.utils.compile",
        {_ALL_REDUCE: Site(1, _OLD), _QK_NORM: Site(4, _OLD)},
        _BY_PATH,
    ),
    Line(
        ">=0.5.12,<0.5.16",
        "sglang.jit_kernel.utils.load_jit",
        "sglang.jit_kernel.utils",
        {
            "distributed/custom_all_reduce_pull.cuh": Site(1, _OLD),
            "distributed/custom_all_reduce_push.cuh": Site(1, _OLD),
            _QK_NORM: Site(4, _OLD),
        },
        _BY_PATH,
    ),
)


def _form(line: Line) -> Form:
    # How sources are found is told in the module that has the paths, or beside it.
    base = line.paths if line.anchors is _BY_PATH else line.paths.rpartition(".")[0]
    asked = ((f"{site.module}.{site.inside}", f'cuda_files=["{name}"]') for name, site in line.sites.items())
    found = ((f"{base}.{target}", text) for target, text in line.anchors)
    return Form(
        releases=line.releases,
        anchors=(
            *(Anchor(target.rstrip("."), text) for target, text in (*found, *asked)),
            *([line.told_by] if line.told_by else []),
        ),
        hooks=lambda: (Hook(line.load_jit, "around", partial(loaded, line)),),
        verify=partial(verify, line),
    )


PATCH = Patch(
    name="jit-bit-cast",
    kind="cure",
    why="JIT kernels, with TP > 1 or since 0.5.21 all, do not compile where the toolchain lacks std::bit_cast.",
    how="Around the JIT's load_jit: sources that use it come from a cache, with the casts rewritten.",
    upstream="none; the fork pyc96/sglang",
    releases=">=0.5.12",
    forms=tuple(_form(line) for line in _LINES),
    remove_when="No toolchain in use lacks std::bit_cast, or upstream casts pointers itself.",
)
