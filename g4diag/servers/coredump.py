"""The environment under which CUDA writes a core dump of an exception: which block of which kernel it was."""

from __future__ import annotations

from pathlib import Path

# Without memory contents: no K/V leaves the server, and a dump of a whole GPU becomes some 200 MB.
_FLAGS = (
    "skip_nonrelocated_elf_images",
    "skip_global_memory",
    "skip_shared_memory",
    "skip_local_memory",
    "skip_constbank_memory",
)


def environment(folder: Path) -> dict[str, str]:
    """Variables for a server whose processes shall leave `core.PID` in `folder`. They cost nothing until it faults."""
    return {
        "CUDA_ENABLE_COREDUMP_ON_EXCEPTION": "1",
        "CUDA_COREDUMP_SHOW_PROGRESS": "1",
        "CUDA_COREDUMP_GENERATION_FLAGS": ",".join(_FLAGS),
        "CUDA_COREDUMP_FILE": str(folder.absolute() / "core.%p"),
    }
