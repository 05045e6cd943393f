"""A JIT build that stopped for want of std::bit_cast is known, with its cure; one that stopped otherwise is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4diag.analyzers import inspect_files

ISSUE = "jit-bit-cast"
HEADER = "/opt/sglang/kernels/jit/include/sgl_kernel/tensor.h"
LOG = """\
[2026-11-29 19:01:12] server_args=ServerArgs(model_path='google/gemma-4-31B-it', page_size=64, tp_size=2)
[2026-11-29 19:02:13 TP0] Scheduler hit an exception: Traceback (most recent call last):
  File "/opt/sglang/srt/managers/scheduler.py", line 4012, in run_scheduler_process
    scheduler = Scheduler(
  File "/opt/sglang/kernels/jit/utils/compile/ninja.py", line 169, in build
    raise RuntimeError(
RuntimeError: {raised}
stdout:
[1/2] /usr/local/cuda/bin/nvcc -MD -MF "cuda_0.o.d" -Xcompiler -fPIC -c "cuda.cu" -o "cuda_0.o"
FAILED: [code=2] cuda_0.o
{error}
      auto value = std::bit_cast<uintptr_t>(data);
                        ^

1 error detected in the compilation of "cuda.cu".
ninja: build stopped: subcommand failed.

stderr:

[2026-11-29 19:02:13] Received sigquit from a child process. It usually means the child failed.
"""
RAISED = "Failed to build JIT module sgl_kernel_jit_custom_all_reduce_v2 in /home/user/.cache/sglang/jit/sm90a/build-1"
NVCC = f'{HEADER}(595): error: namespace "std" has no member "bit_cast"'
GCC = f"{HEADER}:595:18: error: 'bit_cast' is not a member of 'std'"


def known(tmp_path: Path, error: str, raised: str = RAISED) -> list[str]:
    """Known issues of such a log, matched or possible."""
    log = tmp_path / "server.log"
    log.write_text(LOG.format(error=error, raised=raised), encoding="utf-8")
    found = inspect_files([log])
    assert found.outcome.value in ("crash", "likely")
    rows = found.of("known_issues")
    assert all("matched" in row.text for row in rows if row.data["id"] == ISSUE)
    return [str(row.data["id"]) for row in rows if "id" in row.data]


@pytest.mark.parametrize("raised", [RAISED, "ninja exited with status 1"])
@pytest.mark.parametrize(
    "error", [NVCC, GCC, GCC.replace("'bit_cast'", "\u2018bit_cast\u2019").replace("'std'", "\u2018std\u2019")]
)
def test_no_bit_cast_is_known(error: str, raised: str, tmp_path: Path) -> None:
    assert ISSUE in known(tmp_path, error, raised)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (f"{HEADER}:273:7: error: expected nested-name-specifier before 'enum'", RAISED),
        (NVCC.replace("bit_cast", "span"), RAISED),
        (f"{HEADER}(595): warning: std::bit_cast is used", RAISED),
        (NVCC, "the server's user read a page about compilers"),
    ],
    ids=["GCC 10 itself", "another name", "no error", "no build"],
)
def test_anything_else_is_not(error: str, raised: str, tmp_path: Path) -> None:
    assert ISSUE not in known(tmp_path, error, raised)
