"""The compiler is handed rewritten headers for three kernels and the installed ones for all others."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag import guard
from g4diag.errors import PatchRefused
from g4diag.patches import jit_bit_cast
from g4diag.patches.applying import applied

COUNTS = {"custom_all_reduce_pull.cuh": 1, "custom_all_reduce_push.cuh": 1, "tp_qknorm.cuh": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "g4diag"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, list[str], list[str]]]]:
    """Per kernel: module name, the files its CUDA source includes by path, the folders for the rest."""
    import tvm_ffi.cpp

    seen: list[tuple[str, list[str], list[str]]] = []

    def load_inline(name: str, *, cuda_sources: list[str], extra_include_paths: list[str], **more: Any) -> None:
        seen.append((name, re.findall(r'#include "([^"]+)"', "\n".join(cuda_sources)), extra_include_paths))

    monkeypatch.setattr(tvm_ffi.cpp, "load_inline", load_inline)
    yield seen


def build_all() -> None:
    """The three kernels and one other, past sglang's own per-process caches."""
    import torch
    from sglang.jit_kernel import all_reduce, norm

    all_reduce._jit_custom_all_reduce_pull_module.__wrapped__(torch.bfloat16, 2)
    all_reduce._jit_custom_all_reduce_push_module.__wrapped__(torch.bfloat16, 2)
    all_reduce._jit_fused_parallel_qknorm_module.__wrapped__(torch.bfloat16, 2, 512, 512)
    norm._jit_rmsnorm_module.__wrapped__(512, torch.bfloat16)


def test_what_is_compiled(compiled: list[tuple[str, list[str], list[str]]], cache: Path) -> None:
    build_all()
    with applied(["jit-bit-cast"]):
        build_all()
    build_all()
    stock, patched, after = compiled[:4], compiled[4:8], compiled[8:]
    assert after == stock and patched[3] == stock[3] and not any(str(cache) in row[1][0] for row in stock)
    for (old_name, (old,), old_folders), (new_name, (new,), new_folders) in zip(stock[:3], patched[:3], strict=True):
        assert new_name != old_name, "another kernel to the JIT's cache"
        assert Path(new).is_relative_to(cache) and new_folders == old_folders
        before, now = Path(old).read_text().splitlines(), Path(new).read_text().splitlines()
        changed = [(a, b) for a, b in zip(before, now, strict=True) if a != b]
        assert len(changed) == COUNTS[Path(old).name] and "bit_cast" not in "\n".join(now)
        assert all(b == a.replace("std::bit_cast", "reinterpret_cast") for a, b in changed)


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
        jit_bit_cast.rewritten("distributed/custom_all_reduce_push.cuh", text)


def test_an_installed_header_that_changed_refuses_the_patch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from sglang.jit_kernel import utils

    shutil.copytree(utils.KERNEL_PATH / "csrc" / "distributed", tmp_path / "csrc" / "distributed")
    header = tmp_path / "csrc" / "distributed" / "tp_qknorm.cuh"
    header.write_text(header.read_text().replace("std::bit_cast", "other_cast", 1))
    monkeypatch.setattr(utils, "KERNEL_PATH", tmp_path)
    with pytest.raises(PatchRefused, match=r"wanted 4 .*tp_qknorm.cuh, found 3"), applied(["jit-bit-cast"]):
        raise AssertionError("entered")
    header.unlink()
    with pytest.raises(PatchRefused, match="found nothing at"), applied(["jit-bit-cast"]):
        raise AssertionError("entered")


def test_many_writers_leave_one_whole_file(cache: Path) -> None:
    text, source = "line\n" * 20_000, Path("/somewhere/kernel.cuh")
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(jit_bit_cast.placed(source, text))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 1 and paths[0].read_text() == text
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["kernel.cuh"]
    paths[0].write_text("torn")
    assert jit_bit_cast.placed(source, text).read_text() == text
    assert jit_bit_cast.placed(source, text + "x") != jit_bit_cast.placed(Path("/other/kernel.cuh"), text) != paths[0]


def test_a_cache_that_cannot_be_written_leaves_the_original(
    compiled: list[tuple[str, list[str], list[str]]], cache: Path
) -> None:
    cache.write_text("a file where the folder should be")
    build_all()
    guard.set_raising(False)
    with applied(["jit-bit-cast"]):
        build_all()
    assert compiled[4:] == compiled[:4]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")
def test_each_cast_says_the_same_bit_for_bit(tmp_path: Path) -> None:
    """The expressions of the headers, before and after, on pointers of the types they have there."""
    pairs = []
    for name in jit_bit_cast._SITES:
        before = jit_bit_cast._source(name).read_text()
        after = jit_bit_cast.rewritten(name, before)
        casts = (r"std::bit_cast<intptr_t>\([\w.]+\)", r"reinterpret_cast<intptr_t>\([\w.]+\)")
        pairs += zip(re.findall(casts[0], before), re.findall(casts[1], after)[-COUNTS[Path(name).name] :], strict=True)
    assert len(pairs) == 6
    checks = "\n".join(f"if (!same({old}, {new})) return 1;" for old, new in pairs)
    program = f"""
        #include <bit>
        #include <cstdint>
        #include <initializer_list>
        #include <type_traits>
        struct Params {{
          void* q_ptr; void* k_ptr; const void* __restrict__ q_weight; const void* __restrict__ k_weight;
        }};
        template <class A, class B> bool same(A a, B b) {{ return std::is_same_v<A, B> && a == b; }}
        int main() {{
          for (std::uintptr_t bits : {{std::uintptr_t{{0}}, std::uintptr_t{{17}}, UINTPTR_MAX, UINTPTR_MAX / 2 + 1}}) {{
            void* input_ptr = reinterpret_cast<void*>(bits);
            Params params{{input_ptr, input_ptr, input_ptr, input_ptr}};
            {checks}
          }}
          return 0;
        }}"""
    (tmp_path / "t.cpp").write_text(program)
    subprocess.run(["g++", "-std=c++20", "-O2", "-Wall", "-Werror", "t.cpp", "-o", "t"], cwd=tmp_path, check=True)
    subprocess.run([str(tmp_path / "t")], check=True)
