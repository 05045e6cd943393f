"""The compiler is handed rewritten sources for the kernels that need it and the installed ones for all others."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.specifiers import SpecifierSet

pytest.importorskip("sglang")

from g4diag import guard
from g4diag.errors import PatchRefused
from g4diag.hooks.versions import version_of
from g4diag.patches import jit_bit_cast, kernel_sources
from g4diag.patches.applying import applied
from g4diag.patches.contract import form_for, unmatched

HOST = shutil.which("g++")
OTHER = "elementwise/rmsnorm.cuh"  # a source that is none of ours


class Build(NamedTuple):
    """What the JIT was about to compile: its key, sources by path, folders for the rest, flags before those."""

    key: str
    files: list[str]
    folders: list[str]
    flags: list[str]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "g4diag"


@pytest.fixture
def line() -> jit_bit_cast.Line:
    """The line of releases that is installed."""
    form = form_for(jit_bit_cast.PATCH)
    assert form is not None, unmatched(jit_bit_cast.PATCH)
    return next(line for line in jit_bit_cast._LINES if line.releases == form.releases)


@pytest.fixture(params=["g++-10", "nvcc"])
def needed(
    request: pytest.FixtureRequest, line: jit_bit_cast.Line, monkeypatch: pytest.MonkeyPatch
) -> jit_bit_cast.Line:
    """A compiler that has no std::bit_cast: $CXX's, or that which nvcc picks by itself."""
    if line.shared:
        toolchain = import_module(f"{line.paths.rpartition('.')[0]}.toolchain")
        monkeypatch.setattr(toolchain, "compilers", lambda: ("g++-10", "nvcc"))
        monkeypatch.setattr(jit_bit_cast, "lacks_bit_cast", lambda compiler: compiler == request.param)
    return line


@pytest.fixture
def builds(line: jit_bit_cast.Line, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Build]]:
    """Builds, caught before a compiler is started."""
    seen: list[Build] = []

    def load_inline(name: str, *, cuda_sources: list[str], extra_include_paths: list[str], **more: Any) -> None:
        seen.append(Build(name, re.findall(r'#include "([^"]+)"', "\n".join(cuda_sources)), extra_include_paths, []))

    class Spec:
        def __init__(self, **given: Any) -> None:
            files = list(given["cuda_files"])
            seen.append(Build(str(files), files, list(given["include_paths"]), list(given["cuda_cflags"])))
            raise Caught

    if line.anchors is jit_bit_cast._BY_PATH:
        import tvm_ffi.cpp

        monkeypatch.setattr(tvm_ffi.cpp, "load_inline", load_inline)
    else:
        loader = import_module(line.load_jit.rpartition(".")[0])
        monkeypatch.setattr(loader, "BuildSpec", Spec)
        monkeypatch.setattr(loader, "get_default_target_flags", list)
    yield seen


class Caught(Exception):
    """Ends a build once its specification was seen."""


def build_all(line: jit_bit_cast.Line) -> None:
    """Each kernel of ours as its own module asks for it, and one other."""
    askers = {name: site.module for name, site in line.sites.items()}
    for name, module in [*askers.items(), (OTHER, next(iter(askers.values())))]:
        try:
            import_module(module).load_jit("name", cuda_files=[name], cuda_wrappers=[("f", "g")])
        except Caught:
            continue


def test_what_is_compiled(builds: list[Build], line: jit_bit_cast.Line, cache: Path) -> None:
    build_all(line)
    with applied(["jit-bit-cast"]):
        build_all(line)
    build_all(line)
    each = len(line.sites) + 1
    stock, patched, after = builds[:each], builds[each : 2 * each], builds[2 * each :]
    assert after == stock and patched[-1] == stock[-1] and not any(str(cache) in row.files[0] for row in stock)
    for old, new, site in zip(stock[:-1], patched[:-1], line.sites.values(), strict=True):
        assert new.key != old.key, "another kernel to the JIT's cache"
        assert Path(new.files[0]).is_relative_to(cache) and new.folders == old.folders and new.flags == old.flags
        before, now = Path(old.files[0]).read_text().splitlines(), Path(new.files[0]).read_text().splitlines()
        changed = [(a, b) for a, b in zip(before, now, strict=True) if a != b]
        assert len(changed) == site.casts and "bit_cast" not in "\n".join(now)
        assert all(b == a.replace("std::bit_cast", "reinterpret_cast") for a, b in changed)


def test_the_shared_header_is_shadowed_where_the_compiler_needs_it(
    builds: list[Build], needed: jit_bit_cast.Line, cache: Path
) -> None:
    if not needed.shared:
        pytest.skip(f"sglang {version_of('sglang')}: no shared header uses std::bit_cast")
    build_all(needed)
    with applied(["jit-bit-cast"]):
        build_all(needed)
    stock, patched = builds[: len(builds) // 2], builds[len(builds) // 2 :]
    for old, new in zip(stock, patched, strict=True):
        (first, *rest), name = new.flags, needed.shared[0]
        copy = Path(first.removeprefix("-I")) / name
        assert rest == old.flags and new.folders == old.folders, "before upstream's own folders"
        assert copy.is_relative_to(cache) and "bit_cast" not in copy.read_text()
    if HOST is None:
        pytest.skip("no g++ on this machine: which of two headers it takes was not seen")
    program, folders = f"#include <{name}>\n", [first, *(f"-I{folder}" for folder in new.folders)]
    listed = subprocess.run(
        [HOST, "-MM", "-MG", *folders, "-x", "c++", "-"], input=program, capture_output=True, text=True
    )
    assert str(copy) in listed.stdout and listed.stdout.count(f"/{name}") == 1


CASTS = json.loads((Path(__file__).parents[1] / "data" / "bit_casts.json").read_text())


@pytest.mark.parametrize("release", [r for r in CASTS if r in SpecifierSet(jit_bit_cast.PATCH.releases)])
def test_every_line_knows_all_that_is_in_its_wheels(release: str) -> None:
    """In the kernels of tensor parallelism, and in headers that others share: those of one model are not Gemma-4's."""
    (line,) = [line for line in jit_bit_cast._LINES if release in SpecifierSet(line.releases)]
    known = {f"csrc/{name}": site.casts for name, site in line.sites.items()}
    known |= {f"include/{line.shared[0]}": line.shared[1]} if line.shared else {}
    of_a_model = re.compile(r"deepseek|inkling")
    there = {
        name: count
        for name, count in CASTS[release].items()
        if name.startswith(("csrc/distributed/", "include/")) and not of_a_model.search(name)
    }
    assert known == there


@pytest.mark.parametrize(
    ("compiler", "lacks"),
    [("/no/such/compiler", False), ("broken", False), ("old", True), *([(HOST, False)] if HOST else [])],
)
def test_a_compiler_is_asked(tmp_path: Path, compiler: str, lacks: bool) -> None:
    for name, said in (("broken", "segmentation fault"), ("old", "<stdin>:3:2: error: #error g4diag_has_none")):
        script = tmp_path / name
        script.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
        script.chmod(0o755)
    assert kernel_sources.lacks_bit_cast(str(tmp_path / compiler)) is lacks


def test_nvcc_is_asked_as_it_compiles_and_not_as_cxx_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text('#!/bin/sh\ncase "$*" in *"-x cu"*) echo "error: #error g4diag_has_none" >&2 ;; esac\nexit 1\n')
    nvcc.chmod(0o755)
    monkeypatch.setenv("CXX", "/a/newer/g++")
    assert kernel_sources.lacks_bit_cast(str(nvcc))


def test_a_compiler_cannot_be_asked_where_no_file_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    old = tmp_path / "old"
    old.write_text(f"#!/bin/sh\ntouch {asked}\necho g4diag_has_none >&2\nexit 1\n")
    old.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert kernel_sources.lacks_bit_cast(str(old)) is False and not asked.exists()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = 1;", "found 0"),
        ("std::bit_cast<intptr_t>(p); std::bit_cast<intptr_t>(q);", "found 2"),
        ("std::bit_cast<intptr_t>(p); std::bit_cast<float>(1);", "1 of another form"),
        ('#include "common.cuh"\nstd::bit_cast<intptr_t>(p);', "common.cuh"),
    ],
)
def test_a_header_that_is_not_as_known_is_refused(text: str, found: str) -> None:
    with pytest.raises(PatchRefused, match=found):
        jit_bit_cast.rewritten("distributed/x.cuh", text, 1)


def test_an_installed_source_that_changed_refuses_the_patch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: jit_bit_cast.Line
) -> None:
    paths, known = import_module(line.paths), jit_bit_cast.sources(line)
    for path, _ in known.values():
        copy = tmp_path / path.relative_to(paths.KERNEL_PATH)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    monkeypatch.setattr(paths, "KERNEL_PATH", tmp_path)
    for name, (path, casts) in jit_bit_cast.sources(line).items():
        text = path.read_text()
        path.write_text(text.replace("std::bit_cast", "other_cast", 1))
        with (
            pytest.raises(PatchRefused, match=rf"wanted {casts} .*{name}, found {casts - 1}"),
            applied(["jit-bit-cast"]),
        ):
            raise AssertionError("entered")
        path.unlink()
        with pytest.raises(PatchRefused, match="found nothing at"), applied(["jit-bit-cast"]):
            raise AssertionError("entered")
        path.write_text(text)


def test_many_writers_leave_one_whole_file(cache: Path) -> None:
    text, source = "line\n" * 20_000, Path("/somewhere/kernel.cuh")
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(kernel_sources.placed(source, text))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 1 and paths[0].read_text() == text
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["kernel.cuh"]
    paths[0].write_text("torn")
    assert kernel_sources.placed(source, text).read_text() == text
    assert (
        kernel_sources.placed(source, text + "x") != kernel_sources.placed(Path("/other/kernel.cuh"), text) != paths[0]
    )


def test_a_cache_that_cannot_be_written_leaves_the_original(
    builds: list[Build], needed: jit_bit_cast.Line, cache: Path
) -> None:
    cache.write_text("a file where the folder should be")
    build_all(needed)
    guard.set_raising(False)
    with applied(["jit-bit-cast"]):
        build_all(needed)
    assert builds[len(builds) // 2 :] == builds[: len(builds) // 2]


@pytest.mark.skipif(HOST is None, reason="no g++ on this machine")
def test_each_cast_says_the_same_bit_for_bit(tmp_path: Path, line: jit_bit_cast.Line) -> None:
    """The expressions of the sources, before and after, on values of the types they have there."""
    pairs = []
    for name, (path, casts) in jit_bit_cast.sources(line).items():
        before = path.read_text()
        jit_bit_cast.rewritten(name, before, casts)
        olds = [found.group() for found in jit_bit_cast._SITE.finditer(before)]
        pairs += [(old, old.replace("std::bit_cast", "reinterpret_cast")) for old in olds]
    assert len(pairs) == sum(casts for _, casts in jit_bit_cast.sources(line).values())
    checks = "\n".join(f"if (!same({old}, {new})) return 1;" for old, new in pairs)
    program = f"""
        #include <bit>
        #include <cstdint>
        #include <initializer_list>
        #include <type_traits>
        struct Params {{
          void* q_ptr; void* k_ptr; const void* __restrict__ q_weight; const void* __restrict__ k_weight;
        }};
        struct View {{ void* at; void* data_ptr() const {{ return at; }} }};
        template <class A, class B> bool same(A a, B b) {{ return std::is_same_v<A, B> && a == b; }}
        int main() {{
          for (std::uintptr_t bits : {{std::uintptr_t{{0}}, std::uintptr_t{{17}}, UINTPTR_MAX, UINTPTR_MAX / 2 + 1}}) {{
            [[maybe_unused]] void* input_ptr = reinterpret_cast<void*>(bits);
            [[maybe_unused]] Params params{{input_ptr, input_ptr, input_ptr, input_ptr}};
            [[maybe_unused]] View in_{{input_ptr}}, view{{input_ptr}};
            [[maybe_unused]] std::uintptr_t in_mc_ptr = bits, out_mc_ptr = bits;
            {checks}
          }}
          return 0;
        }}"""
    (tmp_path / "t.cpp").write_text(program)
    subprocess.run(["g++", "-std=c++20", "-O2", "-Wall", "-Werror", "t.cpp", "-o", "t"], cwd=tmp_path, check=True)
    subprocess.run([str(tmp_path / "t")], check=True)
