"""Marks that say what a test needs of the machine."""

from __future__ import annotations

import ctypes

import pytest

from g4diag.stack.drive import sgl_kernel_stand_in


def _has_libcuda() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


# A server process, as it is on a machine of its own: the stand-in for sgl_kernel is of this process alone.
starts_sglang = pytest.mark.skipif(
    sgl_kernel_stand_in.is_needed() and not _has_libcuda(),
    reason="every process of this release imports sgl_kernel, which wants libcuda",
)
